//===- Dispatch.cpp - The module bmgrad.runtime._dispatch -------*- C++ -*-===//
//
// A repeated call of a compiled function. JAX dispatches in a few microseconds;
// Python code in front of that would add a tenth to the cost of a small
// function.
//
//===----------------------------------------------------------------------===//

#include "Arrays.h"

#include <structmember.h>

#include <vector>

/// Counts how often an array object that a program may hold was replaced.
static unsigned long long currentEpoch = 0;

static PyObject *valueName, *callName, *assignName, *currentName;

/// What tells the trace of JAX that operations of this thread go into, and the
/// one that runs them at once.
static PyObject *traceState, *evaluation;

/// How an object that the garbage collector knows goes. Not by its type's
/// `tp_clear`: in a subclass that is another.
template <inquiry clear> static void dealloc(PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);
  PyObject_GC_UnTrack(object);
  clear(object);
  type->tp_free(object);
  Py_DECREF(type);
}

//===----------------------------------------------------------------------===//
// TraceStack
//===----------------------------------------------------------------------===//

/// The trace contexts of this thread, innermost last. Owns them; where a thread
/// ends there are none left.
static thread_local std::vector<PyObject *> contexts;

PyObject *currentContext() {
  return contexts.empty() || contexts.back() == Py_None ? nullptr
                                                        : contexts.back();
}

static PyObject *getTop(PyObject *, void *) {
  return Py_NewRef(contexts.empty() ? Py_None : contexts.back());
}

static PyObject *pushContext(PyObject *, PyObject *context) {
  contexts.push_back(Py_NewRef(context));
  Py_RETURN_NONE;
}

static PyObject *popContext(PyObject *, PyObject *) {
  if (contexts.empty()) {
    PyErr_SetString(PyExc_IndexError, "pop from an empty stack");
    return nullptr;
  }
  PyObject *top = contexts.back();
  contexts.pop_back();
  return top;
}

static PyGetSetDef stackProperties[] = {
    {"top", getTop, nullptr, "The innermost context of this thread, or None.",
     nullptr},
    {}};

static PyMethodDef stackMethods[] = {
    {"push", pushContext, METH_O,
     "push(context): makes it the innermost one; None suspends tracing."},
    {"pop", popContext, METH_NOARGS,
     "pop(): leaves the innermost context, which it returns."},
    {}};

static PyType_Slot stackSlots[] = {
    {Py_tp_doc, const_cast<char *>(
                    "The trace contexts of each thread, all in one place.")},
    {Py_tp_getset, stackProperties},
    {Py_tp_methods, stackMethods},
    {}};

static PyType_Spec stackSpec = {"bmgrad.runtime._dispatch.TraceStack",
                                sizeof(PyObject), 0, Py_TPFLAGS_DEFAULT,
                                stackSlots};

//===----------------------------------------------------------------------===//
// Shortcut
//===----------------------------------------------------------------------===//

namespace {
struct Shortcut {
  PyObject head;
  /// Exceptions after which the call is to be made in another way.
  PyObject *otherWays;
  /// Types whose instances hold nothing that calls are told apart by, and what
  /// says so of an instance of another type. None where nothing is.
  PyObject *plainTypes, *holdsFlags;
  /// What to call; null while there is nothing.
  PyObject *target;
  /// Array objects whose values are inputs too: a list, or None.
  PyObject *arrays;
  unsigned long long epoch;
  unsigned long long hits;
};
} // namespace

static int initShortcut(PyObject *object, PyObject *args, PyObject *kwargs) {
  auto *self = reinterpret_cast<Shortcut *>(object);
  PyObject *otherWays, *plainTypes, *holdsFlags;
  static const char *names[] = {"other_ways", "plain_types", "holds_flags",
                                nullptr};
  if (!PyArg_ParseTupleAndKeywords(
          args, kwargs, "O!O!O", const_cast<char **>(names), &PyTuple_Type,
          &otherWays, &PySet_Type, &plainTypes, &holdsFlags))
    return -1;
  Py_XSETREF(self->otherWays, Py_NewRef(otherWays));
  Py_XSETREF(self->plainTypes, Py_NewRef(plainTypes));
  Py_XSETREF(self->holdsFlags, Py_NewRef(holdsFlags));
  return 0;
}

static PyObject *openShortcut(PyObject *object, PyObject *args) {
  auto *self = reinterpret_cast<Shortcut *>(object);
  PyObject *target, *arrays;
  unsigned long long epoch;
  if (!PyArg_ParseTuple(args, "OKO", &target, &epoch, &arrays))
    return nullptr;
  if (arrays != Py_None && !PyList_Check(arrays))
    return PyErr_Format(PyExc_TypeError,
                        "arrays must be a list or None, got %R", arrays);
  Py_XSETREF(self->target, Py_NewRef(target));
  Py_XSETREF(self->arrays, Py_NewRef(arrays));
  self->epoch = epoch;
  Py_RETURN_NONE;
}

static int clearShortcut(PyObject *object) {
  auto *self = reinterpret_cast<Shortcut *>(object);
  Py_CLEAR(self->otherWays);
  Py_CLEAR(self->plainTypes);
  Py_CLEAR(self->holdsFlags);
  Py_CLEAR(self->target);
  Py_CLEAR(self->arrays);
  return 0;
}

static PyObject *closeShortcut(PyObject *object, PyObject *) {
  auto *self = reinterpret_cast<Shortcut *>(object);
  Py_CLEAR(self->target);
  Py_CLEAR(self->arrays);
  Py_RETURN_NONE;
}

static int visitShortcut(PyObject *object, visitproc visit, void *arg) {
  auto *self = reinterpret_cast<Shortcut *>(object);
  Py_VISIT(Py_TYPE(object));
  Py_VISIT(self->otherWays);
  Py_VISIT(self->plainTypes);
  Py_VISIT(self->holdsFlags);
  Py_VISIT(self->target);
  Py_VISIT(self->arrays);
  return 0;
}

static PyMethodDef shortcutMethods[] = {
    {"open", openShortcut, METH_VARARGS,
     "open(target, epoch, arrays): calls go to `target` until the epoch "
     "changes.\n\nWhere `arrays` is a list, `target` takes their values, the "
     "arguments and the keywords,\nand returns a result and a dict of what it "
     "assigns; else the arguments as they are."},
    {"close", closeShortcut, METH_NOARGS, "close(): calls go the long way."},
    {}};

static PyMemberDef shortcutMembers[] = {{"hits", T_ULONGLONG,
                                         offsetof(Shortcut, hits), READONLY,
                                         "How many calls it has made."},
                                        {}};

static PyType_Slot shortcutSlots[] = {
    {Py_tp_doc,
     const_cast<char *>("What calls of a compiled function go to at once.")},
    {Py_tp_init, reinterpret_cast<void *>(initShortcut)},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc<clearShortcut>)},
    {Py_tp_traverse, reinterpret_cast<void *>(visitShortcut)},
    {Py_tp_clear, reinterpret_cast<void *>(clearShortcut)},
    {Py_tp_methods, shortcutMethods},
    {Py_tp_members, shortcutMembers},
    {}};

static PyType_Spec shortcutSpec = {
    "bmgrad.runtime._dispatch.Shortcut", sizeof(Shortcut), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, shortcutSlots};

/// Whether there is something in `value` that calls are told apart by, as
/// `True` from 1; -1 with an exception set.
static int holdsFlags(const Shortcut *shortcut, PyObject *value);

namespace {
/// What a tuple or a list holds, one after the other; null after the last.
struct Items {
  PyObject *sequence;
  Py_ssize_t at = 0;

  PyObject *next() {
    return at < PySequence_Fast_GET_SIZE(sequence)
               ? PySequence_Fast_GET_ITEM(sequence, at++)
               : nullptr;
  }
};

struct DictItems {
  PyObject *dict;
  Py_ssize_t at = 0;

  PyObject *next() {
    PyObject *value;
    return PyDict_Next(dict, &at, nullptr, &value) ? value : nullptr;
  }
};
} // namespace

template <typename Container>
static int holdFlags(const Shortcut *shortcut, Container items) {
  while (PyObject *item = items.next()) {
    Py_INCREF(item);
    int found = holdsFlags(shortcut, item);
    Py_DECREF(item);
    if (found)
      return found;
  }
  return 0;
}

static int holdsFlags(const Shortcut *shortcut, PyObject *value) {
  PyTypeObject *type = Py_TYPE(value);
  if (type == &PyFloat_Type || type == &PyLong_Type || value == Py_None)
    return 0;
  if (PyTuple_Check(value) || PyList_Check(value) || PyDict_Check(value)) {
    if (Py_EnterRecursiveCall(" in the arguments of a compiled function"))
      return -1;
    int found = PyDict_Check(value) ? holdFlags(shortcut, DictItems{value})
                                    : holdFlags(shortcut, Items{value});
    Py_LeaveRecursiveCall();
    return found;
  }
  int isPlain =
      PySet_Contains(shortcut->plainTypes, reinterpret_cast<PyObject *>(type));
  if (isPlain)
    return isPlain < 0 ? -1 : 0;
  PyObject *answer = PyObject_CallOneArg(shortcut->holdsFlags, value);
  int found = answer ? PyObject_IsTrue(answer) : -1;
  Py_XDECREF(answer);
  return found;
}

/// The values that `arrays` hold, in a new list.
static PyObject *valuesOf(PyObject *arrays) {
  Py_ssize_t size = PyList_GET_SIZE(arrays);
  PyObject *values = PyList_New(size);
  for (Py_ssize_t i = 0; values && i < size; ++i) {
    PyObject *value = PyObject_GetAttr(PyList_GET_ITEM(arrays, i), valueName);
    if (value)
      PyList_SET_ITEM(values, i, value);
    else
      Py_CLEAR(values);
  }
  return values;
}

//===----------------------------------------------------------------------===//
// Dispatcher
//===----------------------------------------------------------------------===//

namespace {
struct Dispatcher {
  PyObject head;
  Shortcut *shortcut;
};
} // namespace

/// Calls a target that takes the values of `arrays`, and has the owner assign
/// what it says.
static PyObject *callWithArrays(PyObject *owner, PyObject *target,
                                PyObject *arrays, PyObject *args,
                                PyObject *kwargs) {
  PyObject *values = valuesOf(arrays);
  PyObject *keywords = kwargs ? Py_NewRef(kwargs) : PyDict_New();
  PyObject *pair = nullptr;
  if (values && keywords) {
    PyObject *given[] = {values, args, keywords};
    pair = PyObject_Vectorcall(target, given, 3, nullptr);
  }
  Py_XDECREF(values);
  Py_XDECREF(keywords);
  if (!pair)
    return nullptr;
  PyObject *result, *written, *assigned = nullptr;
  if (PyArg_ParseTuple(pair, "OO!", &result, &PyDict_Type, &written))
    assigned = PyDict_GET_SIZE(written)
                   ? PyObject_CallMethodObjArgs(owner, assignName, written,
                                                arrays, nullptr)
                   : Py_NewRef(Py_None);
  result = assigned ? Py_NewRef(result) : nullptr;
  Py_XDECREF(assigned);
  Py_DECREF(pair);
  return result;
}

/// Whether a transform of JAX is around this call; -1 with an exception set.
static int isInsideTransform() {
  if (!traceState)
    return 0;
  PyObject *current = PyObject_GetAttr(traceState, currentName);
  if (!current)
    return -1;
  Py_DECREF(current); // Only its identity counts.
  return current != evaluation;
}

/// Makes the call by the shortcut. Null without an exception: it is to go the
/// long way.
static PyObject *tryShortcut(PyObject *owner, Shortcut *shortcut,
                             PyObject *args, PyObject *kwargs) {
  if (!shortcut || !shortcut->target || shortcut->epoch != currentEpoch ||
      currentContext() || isInsideTransform()) // A trace is to see each call.
    return nullptr;
  if (shortcut->holdsFlags != Py_None &&
      (holdsFlags(shortcut, args) || (kwargs && holdsFlags(shortcut, kwargs))))
    return nullptr;
  if (!shortcut->target) // Closed by what was asked.
    return nullptr;
  // Whatever runs below, other threads included, may close the shortcut.
  PyObject *target = Py_NewRef(shortcut->target);
  PyObject *arrays = Py_NewRef(shortcut->arrays);
  PyObject *result = arrays == Py_None
                         ? PyObject_Call(target, args, kwargs)
                         : callWithArrays(owner, target, arrays, args, kwargs);
  Py_DECREF(target);
  Py_DECREF(arrays);
  if (result)
    ++shortcut->hits;
  else if (PyErr_ExceptionMatches(shortcut->otherWays))
    PyErr_Clear();
  return result;
}

static PyObject *callDispatcher(PyObject *object, PyObject *args,
                                PyObject *kwargs) {
  Shortcut *shortcut = reinterpret_cast<Dispatcher *>(object)->shortcut;
  PyObject *result = tryShortcut(object, shortcut, args, kwargs);
  if (result || PyErr_Occurred())
    return result;
  PyObject *call = PyObject_GetAttr(object, callName);
  if (!call)
    return nullptr;
  result = PyObject_Call(call, args, kwargs);
  Py_DECREF(call);
  return result;
}

static int clearDispatcher(PyObject *object) {
  Py_CLEAR(reinterpret_cast<Dispatcher *>(object)->shortcut);
  return 0;
}

static int visitDispatcher(PyObject *object, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(object));
  Py_VISIT(reinterpret_cast<Dispatcher *>(object)->shortcut);
  return 0;
}

static PyObject *newDispatcher(PyTypeObject *type, PyObject *, PyObject *) {
  return type->tp_alloc(type, 0);
}

/// The type of shortcuts, for checks. Lives as long as the process.
static PyTypeObject *shortcutType = nullptr;

static PyObject *setShortcut(PyObject *object, PyObject *shortcut) {
  if (!PyObject_TypeCheck(shortcut, shortcutType))
    return PyErr_Format(PyExc_TypeError, "expected a Shortcut, got %R",
                        shortcut);
  Py_XSETREF(reinterpret_cast<Dispatcher *>(object)->shortcut,
             reinterpret_cast<Shortcut *>(Py_NewRef(shortcut)));
  Py_RETURN_NONE;
}

static PyMethodDef dispatcherMethods[] = {
    {"_set_shortcut", setShortcut, METH_O,
     "_set_shortcut(shortcut): what calls try first."},
    {}};

static PyType_Slot dispatcherSlots[] = {
    {Py_tp_doc, const_cast<char *>(
                    "A callable that takes its shortcut where that is open.\n\n"
                    "Subclasses have `_call(*args, **kwargs)`, the long way, "
                    "and `_assign(written, arrays)`.")},
    {Py_tp_new, reinterpret_cast<void *>(newDispatcher)},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc<clearDispatcher>)},
    {Py_tp_traverse, reinterpret_cast<void *>(visitDispatcher)},
    {Py_tp_clear, reinterpret_cast<void *>(clearDispatcher)},
    {Py_tp_call, reinterpret_cast<void *>(callDispatcher)},
    {Py_tp_methods, dispatcherMethods},
    {}};

static PyType_Spec dispatcherSpec = {
    "bmgrad.runtime._dispatch.Dispatcher", sizeof(Dispatcher), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    dispatcherSlots};

//===----------------------------------------------------------------------===//
// The module
//===----------------------------------------------------------------------===//

static PyObject *epoch(PyObject *, PyObject *) {
  return PyLong_FromUnsignedLongLong(currentEpoch);
}

static PyObject *bumpEpoch(PyObject *, PyObject *) {
  ++currentEpoch;
  Py_RETURN_NONE;
}

static PyObject *setTraceState(PyObject *, PyObject *args) {
  PyObject *state, *top;
  if (!PyArg_ParseTuple(args, "OO", &state, &top))
    return nullptr;
  Py_XSETREF(traceState, Py_NewRef(state));
  Py_XSETREF(evaluation, Py_NewRef(top));
  Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"set_trace_state", setTraceState, METH_VARARGS,
     "set_trace_state(state, evaluation): shortcuts are open where state.value "
     "is evaluation."},
    {"epoch", epoch, METH_NOARGS,
     "epoch(): how often array objects that programs may hold were replaced."},
    {"bump_epoch", bumpEpoch, METH_NOARGS,
     "bump_epoch(): closes all shortcuts of the epochs before."},
    {}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                 "bmgrad.runtime._dispatch",
                                 "Repeated calls of compiled functions.",
                                 -1,
                                 functions,
                                 nullptr,
                                 nullptr,
                                 nullptr,
                                 nullptr};

PyMODINIT_FUNC PyInit__dispatch() {
  valueName = PyUnicode_InternFromString("_value");
  callName = PyUnicode_InternFromString("_call");
  assignName = PyUnicode_InternFromString("_assign");
  currentName = PyUnicode_InternFromString("value");
  PyObject *module = PyModule_Create(&definition);
  PyObject *ofStacks = PyType_FromSpec(&stackSpec);
  PyObject *ofShortcuts = PyType_FromSpec(&shortcutSpec);
  PyObject *ofDispatchers = PyType_FromSpec(&dispatcherSpec);
  if (!valueName || !callName || !assignName || !currentName || !module ||
      !ofStacks || !ofShortcuts || !ofDispatchers)
    return nullptr;
  shortcutType = reinterpret_cast<PyTypeObject *>(ofShortcuts);
  if (PyModule_AddObjectRef(module, "TraceStack", ofStacks) < 0 ||
      PyModule_AddObjectRef(module, "Shortcut", ofShortcuts) < 0 ||
      PyModule_AddObjectRef(module, "Dispatcher", ofDispatchers) < 0 ||
      addArrayFunctions(module) < 0)
    return nullptr;
  return module;
}
