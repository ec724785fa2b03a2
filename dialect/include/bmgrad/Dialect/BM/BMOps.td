//===- BMOps.td - The one list of the ops of the bm dialect -*- tablegen -*-===//
//
// CMake reads the list too: each family gets a header, <Family>.h, and is
// registered by `add<Family>Ops`, which its .cpp file defines.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_BMOPS_TD
#define BMGRAD_DIALECT_BM_BMOPS_TD

include "bmgrad/Dialect/BM/Elementwise.td"
include "bmgrad/Dialect/BM/Special.td"
include "bmgrad/Dialect/BM/Shape.td"
include "bmgrad/Dialect/BM/Indexing.td"
include "bmgrad/Dialect/BM/Sorting.td"
include "bmgrad/Dialect/BM/Reduction.td"
include "bmgrad/Dialect/BM/Contraction.td"
include "bmgrad/Dialect/BM/LinearAlgebra.td"
include "bmgrad/Dialect/BM/Convolution.td"
include "bmgrad/Dialect/BM/Pooling.td"
include "bmgrad/Dialect/BM/Folding.td"
include "bmgrad/Dialect/BM/Fft.td"
include "bmgrad/Dialect/BM/Collective.td"
include "bmgrad/Dialect/BM/Control.td"
include "bmgrad/Dialect/BM/Residuals.td"
include "bmgrad/Dialect/BM/Transforms.td"
include "bmgrad/Dialect/BM/Custom.td"
include "bmgrad/Dialect/BM/Kernel.td"

#endif // BMGRAD_DIALECT_BM_BMOPS_TD
