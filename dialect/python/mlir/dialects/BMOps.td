//===- BMOps.td - Entry point of the bm op builders ---------*- tablegen -*-===//

include "bmgrad/Dialect/BM/BMOps.td"
