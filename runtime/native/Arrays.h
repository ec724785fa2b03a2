//===- Arrays.h - Array objects in arguments and results --------*- C++ -*-===//

#ifndef BMGRAD_RUNTIME_NATIVE_ARRAYS_H
#define BMGRAD_RUNTIME_NATIVE_ARRAYS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/// The trace context that calls of this thread belong to, borrowed; null where
/// nothing is traced.
PyObject *currentContext();

/// Adds the functions of Arrays.cpp; negative with an exception set.
int addArrayFunctions(PyObject *module);

#endif // BMGRAD_RUNTIME_NATIVE_ARRAYS_H
