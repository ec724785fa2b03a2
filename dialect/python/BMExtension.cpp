//===- BMExtension.cpp - The module bmgrad.mlir._mlir_libs._bm --*- C++ -*-===//
//
// Thin: every function here is one call of bmgrad-c/BM.h.
//
//===----------------------------------------------------------------------===//

#include "bmgrad-c/BM.h"

#include "mlir/Bindings/Python/Nanobind.h"
#include "mlir/Bindings/Python/NanobindAdaptors.h"

namespace nb = nanobind;

static nb::str toPython(MlirStringRef string) {
  return nb::str(string.data, string.length);
}

static nb::list opTable() {
  nb::list table;
  bmForEachOp(
      [](const BMOpRecord *record, void *table) {
        nb::list primitives;
        for (intptr_t i = 0; i < record->numPrimitives; ++i)
          primitives.append(toPython(record->primitives[i]));
        nb::dict entry;
        entry["name"] = toPython(record->name);
        entry["family"] = toPython(record->family);
        entry["stablehlo"] = toPython(record->stablehlo);
        entry["primitives"] = primitives;
        nb::list rules;
        if (record->hasJvp)
          rules.append("jvp");
        if (record->hasTranspose)
          rules.append("transpose");
        if (record->hasBatching)
          rules.append("batching");
        if (record->hasLowering)
          rules.append("lowering");
        entry["rules"] = rules;
        static_cast<nb::list *>(table)->append(entry);
      },
      &table);
  return table;
}

static nb::list pipelineNames() {
  nb::list names;
  bmForEachPipeline(
      [](MlirStringRef name, void *names) {
        static_cast<nb::list *>(names)->append(toPython(name));
      },
      &names);
  return names;
}

/// The Python functions that know batching rules. Never freed: passes may run
/// until the process ends.
static nb::callable *askBatchingRule = nullptr;
static nb::callable *makeBatch = nullptr;

/// Whether `answer` says why there is no other, which it gives to `reason`.
static bool isReason(const nb::object &answer, MlirStringCallback reason,
                     void *reasonData) {
  if (!nb::isinstance<nb::str>(answer))
    return false;
  auto text = nb::cast<std::string>(answer);
  reason(mlirStringRefCreate(text.data(), text.size()), reasonData);
  return true;
}

static void setBatchingRules(nb::callable ask, nb::callable make) {
  nb::gil_scoped_acquire locked;
  askBatchingRule = new nb::callable(std::move(ask));
  makeBatch = new nb::callable(std::move(make));
  bmSetBatchingRules(
      [](MlirStringRef symbol, bool *results, intptr_t count,
         MlirStringCallback reason, void *reasonData) {
        nb::gil_scoped_acquire locked;
        nb::object answer = (*askBatchingRule)(toPython(symbol));
        if (isReason(answer, reason, reasonData))
          return;
        auto flags = nb::cast<nb::sequence>(answer);
        for (intptr_t i = 0; i < count; ++i)
          results[i] = nb::cast<bool>(flags[i]);
      },
      [](int64_t number, MlirStringRef batch, MlirStringCallback module,
         MlirStringCallback reason, void *moduleData, void *reasonData) {
        nb::gil_scoped_acquire locked;
        nb::object answer = (*makeBatch)(number, toPython(batch));
        if (isReason(answer, reason, reasonData))
          return;
        auto made = nb::cast<nb::bytes>(answer);
        module(mlirStringRefCreate(made.c_str(), made.size()), moduleData);
      });
}

NB_MODULE(_bm, m) {
  m.doc() = "The bm dialect and its passes.";
  bmRegisterPasses();
  m.def("register_dialects", &bmRegisterDialects, nb::arg("registry"),
        "Adds bm and func to a dialect registry.");
  m.def("op_table", &opTable,
        "One dict per bm op: name, family, stablehlo, primitives, rules.");
  m.def("pipeline_names", &pipelineNames,
        "The pass pipelines that PassManager.parse knows.");
  m.def(
      "set_batching_rules", &setBatchingRules, nb::arg("ask"), nb::arg("make"),
      "Has ask(symbol) called for what the batching rule of a kernel gives: a "
      "sequence of bools; and make(number, batch) for the module, as bytes, "
      "of what it makes of a call. A str says why there is none. Neither must "
      "raise.");
}
