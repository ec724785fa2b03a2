//===- Arrays.cpp - Array objects in arguments and results ------*- C++ -*-===//
//
// What JAX does with each array object of a call: it takes the value out, and
// makes an object for each that is returned. Python functions for that would
// cost as much as a third of a small call.
//
//===----------------------------------------------------------------------===//

#include "Arrays.h"

static PyObject *heldName, *valueName, *liftedName, *nameName, *ownName;

/// What every new array object needs beside its value, however it was made.
static PyObject *beginArray(PyObject *, PyObject *array) {
  if (PyObject_SetAttr(array, liftedName, Py_False) < 0 ||
      PyObject_SetAttr(array, nameName, Py_None) < 0)
    return nullptr;
  if (PyObject *context = currentContext())
    return PyObject_CallMethodOneArg(context, ownName, array);
  Py_RETURN_NONE;
}

static PyObject *makeArray(PyObject *type, PyObject *value) {
  PyObject *array =
      PyType_GenericAlloc(reinterpret_cast<PyTypeObject *>(type), 0);
  if (!array)
    return nullptr;
  PyObject *begun = PyObject_SetAttr(array, heldName, value) < 0
                        ? nullptr
                        : beginArray(nullptr, array);
  if (!begun)
    Py_CLEAR(array);
  Py_XDECREF(begun);
  return array;
}

static PyObject *newArray(PyObject *, PyObject *args) {
  PyObject *type, *value;
  if (!PyArg_ParseTuple(args, "O!O", &PyType_Type, &type, &value))
    return nullptr;
  return makeArray(type, value);
}

/// The children and the auxiliary data of a node. Outside a trace an array
/// object's value is what it holds, and no property need be asked.
static PyObject *flattenArray(PyObject *, PyObject *array) {
  PyObject *value =
      PyObject_GetAttr(array, currentContext() ? valueName : heldName);
  PyObject *children = value ? PyTuple_Pack(1, value) : nullptr;
  PyObject *node = children ? PyTuple_Pack(2, children, Py_None) : nullptr;
  Py_XDECREF(value);
  Py_XDECREF(children);
  return node;
}

/// Of the auxiliary data and the children.
static PyObject *unflattenArray(PyObject *type, PyObject *const *args,
                                Py_ssize_t count) {
  if (count != 2)
    return PyErr_Format(PyExc_TypeError, "expected 2 arguments, got %zd",
                        count);
  PyObject *children = PySequence_Fast(args[1], "expected a sequence");
  if (!children)
    return nullptr;
  PyObject *array = nullptr;
  if (PySequence_Fast_GET_SIZE(children) == 1)
    array = makeArray(type, PySequence_Fast_GET_ITEM(children, 0));
  else
    PyErr_Format(PyExc_ValueError, "expected one child of an array, got %zd",
                 PySequence_Fast_GET_SIZE(children));
  Py_DECREF(children);
  return array;
}

static PyMethodDef flattenMethod = {"flatten", flattenArray, METH_O, nullptr};
static PyMethodDef unflattenMethod = {
    "unflatten",
    reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(unflattenArray)),
    METH_FASTCALL, nullptr};

static PyObject *nodeFunctions(PyObject *, PyObject *type) {
  if (!PyType_Check(type))
    return PyErr_Format(PyExc_TypeError, "expected a type, got %R", type);
  PyObject *flatten = PyCFunction_New(&flattenMethod, nullptr);
  PyObject *unflatten = PyCFunction_New(&unflattenMethod, type);
  if (!flatten || !unflatten) {
    Py_XDECREF(flatten);
    Py_XDECREF(unflatten);
    return nullptr;
  }
  return Py_BuildValue("(NN)", flatten, unflatten);
}

static PyMethodDef functions[] = {
    {"begin_array", beginArray, METH_O,
     "begin_array(array): what every new array object needs beside its value."},
    {"new_array", newArray, METH_VARARGS,
     "new_array(type, value): an array object that holds `value` unchecked."},
    {"node_functions", nodeFunctions, METH_O,
     "node_functions(type): how array objects become pytree nodes, and how one "
     "of `type` is made of a node."},
    {}};

int addArrayFunctions(PyObject *module) {
  heldName = PyUnicode_InternFromString("_value");
  valueName = PyUnicode_InternFromString("value");
  liftedName = PyUnicode_InternFromString("_lifted");
  nameName = PyUnicode_InternFromString("_name");
  ownName = PyUnicode_InternFromString("own");
  if (!heldName || !valueName || !liftedName || !nameName || !ownName)
    return -1;
  return PyModule_AddFunctions(module, functions);
}
