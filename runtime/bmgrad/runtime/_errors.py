"""What the compiler raises where a program cannot be made, in the user's words."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bmgrad.runtime._put_off import Flags, PutOff, wanted


class UnsupportedError(NotImplementedError):
    """Something that bmgrad cannot compile or differentiate.

    The message names the JAX primitive, the user's file and line, and what to do.
    """


def no_values_of(aval: object) -> str:
    """Says that programs have no values of this type: an aval, or the name of another."""
    text = aval.str_short() if hasattr(aval, "str_short") else str(aval)
    return (
        f"bmgrad programs have no values of type {text}; they hold arrays of static shape, of "
        "bool, 2 to 64-bit integers, 4, 8 and 16 to 64-bit floats and complex numbers"
    )


class ForwardModeError(UnsupportedError, TypeError):
    """Forward mode of what has a reverse rule only; JAX raises TypeError."""


class CallbackError(UnsupportedError, ValueError):
    """Any derivative of a callback; JAX raises ValueError."""


class ReverseModeError(UnsupportedError, ValueError):
    """Reverse mode of what has forward mode only; JAX raises ValueError."""


def refuses_reverse(make: Callable[[], object]) -> bool:
    """Whether `make` raises that. Other errors are raised where what it makes is used."""
    try:
        make()
    except Exception as error:
        return isinstance(error, ReverseModeError)
    return False


class TransposeError(UnsupportedError, TypeError):
    """Reverse mode of a solve that comes without a transposed one; JAX raises TypeError."""


class BatchError(UnsupportedError, ValueError):
    """A result that depends on a batch, where it is to have none; JAX raises ValueError."""


class NotLinearError(UnsupportedError):
    """What is transposed is not linear in its tangents; `reason` says what is not, and where."""

    def __init__(self, op: str, reason: UnsupportedError) -> None:
        super().__init__(
            "reverse-mode derivative of a function whose derivative rule is not linear in the "
            f"tangents; make the rule linear in them: {reason} (Transpose rule (for reverse-mode "
            f"differentiation) for '{op}' not implemented)"
        )
        self.reason = reason


TOO_DEEP = (
    "a derivative of this order needs derivative rules nested deeper in other rules than "
    "they are followed"
)


class RulesWanted(Exception):
    """A derivative needs rules whose import was put off: of these calls, in these operands."""

    def __init__(self, calls: Sequence[tuple[PutOff, Flags]]) -> None:
        self.calls = calls


# In the IR, before a number: why a derivative rule has no body.
_REASON = "put off error "
_put_off: list[BaseException] = []
_numbers: dict[tuple[Any, ...], int] = {}


def put_off(error: BaseException) -> str:
    """The text for a function that cannot be written; `error` is raised where it is called.

    Rules are traced for all arguments, and some raise for those that nobody differentiates.
    """
    from bmgrad.runtime._jax_internals import users_stack  # It raises errors of this file itself.

    if stack := users_stack(error):
        error.add_note(f"raised by a rule:\n{stack.rstrip()}")
    # Frames would keep tracers alive.
    error.__cause__ = error.__context__ = None
    # Equal errors have one number, or equal programs would differ.
    key = (type(error), str(error), *getattr(error, "__notes__", ()))
    if key not in _numbers:
        _numbers[key] = len(_put_off)
        _put_off.append(error.with_traceback(None))
    return f"{_REASON}{_numbers[key]}"


def put_off_in(message: str) -> BaseException | None:
    """The error that a message says was put off; None where it says nothing of one."""
    found = re.search(_REASON + r"(\d+)", message)
    if found is None:
        return None
    error = _put_off[int(found[1])]
    # It may have been raised before, from elsewhere.
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


_NOT_LINEAR = re.compile(
    r"'bm\.(\w+)' op (?:is linear in a tangent but has no|is linear in one operand at a time|"
    r"is not linear|cannot be transposed)"
)
_FILE = re.compile(r'"([^"]+)":(\d+):\d+')


class _Reason(NamedTuple):
    """What a message that begins with the pattern is raised as, and what is said after it.

    What the pattern finds is put into the advice.
    """

    pattern: str
    error: type[UnsupportedError]
    advice: str


# Where JAX raises an error for the same reason its words are in ours: people search for them.
_REASONS = [
    *(
        _Reason(
            f"no derivative rule for primitive '{primitive}'",
            CallbackError,
            f"; give the function around it a rule of its own (jax.custom_jvp, jax.custom_vjp) "
            f"({name} callbacks do not support JVP)",
        )
        for primitive, name in (("pure_callback", "Pure"), ("io_callback", "IO"))
    ),
    *(
        _Reason(
            f"no derivative rule for primitive '{primitive}'",
            UnsupportedError,
            ": a value that depends on what is differentiated is written to a reference "
            "(jax.new_ref) that is not. Move the array reference into the differentiated function, "
            "keep the gradient from the value (jax.lax.stop_gradient), or make the reference by "
            "jax.new_ref(..., kind='no_grad_no_remat')",
        )
        for primitive in ("swap", "addupdate")
    ),
    _Reason(
        "write to a reference that the elements of a batch share",
        UnsupportedError,
        "; return the value, and write outside of what is mapped (performing a set/swap operation "
        "with vmapped value on an unbatched array reference)",
    ),
    _Reason(
        r"no derivative rule for primitive '\w+' with respect to its argument",
        UnsupportedError,
        "; give the function around it a rule of its own (jax.custom_jvp, jax.custom_vjp), or "
        "keep the gradient from that argument (jax.lax.stop_gradient)",
    ),
    _Reason(
        "no derivative rule for primitive 'custom_lin'",
        ForwardModeError,
        ": it is the tangent of a function with a custom VJP rule, which has no forward mode; use "
        "jax.custom_jvp, or reverse mode (can't apply forward-mode autodiff (jvp) to a custom_vjp "
        "function)",
    ),
    _Reason(
        r"no derivative rule for primitive '(\w+)'",
        UnsupportedError,
        "; give the function around it a rule of its own (jax.custom_jvp, jax.custom_vjp), "
        "register one for the primitive (bmgrad.extend.register_primitive), or keep the "
        "gradient from it (jax.lax.stop_gradient) (Differentiation rule for '{}' not implemented)",
    ),
    _Reason(
        r"no transpose rule for primitive '(\w+)'",
        UnsupportedError,
        "; register one (jax.interpreters.ad.primitive_transposes, "
        "bmgrad.extend.register_primitive) (Transpose rule (for reverse-mode differentiation) for "
        "'{}' not implemented)",
    ),
    _Reason(
        "a result depends on a batched argument but has no batch axis",
        BatchError,
        "; give it one in out_axes, and return from a function under bm.vmap what it would assign "
        "to a variable (vmap out_axes: got axis spec None but output was batched)",
    ),
    _Reason(
        "reverse-mode derivative of a while loop",
        ReverseModeError,
        "; forward mode (bm.jvp, bm.jacfwd) goes through any loop (Reverse-mode differentiation "
        "does not work for lax.while_loop or lax.fori_loop with dynamic start/stop values)",
    ),
    _Reason(
        "reverse-mode derivative of a custom_linear_solve without transpose_solve",
        TransposeError,
        " (transpose_solve required for backwards mode automatic differentiation)",
    ),
    _Reason(
        "forward-mode derivative of a function with a custom VJP rule",
        ForwardModeError,
        " (can't apply forward-mode autodiff (jvp) to a custom_vjp function.)",
    ),
    _Reason(
        "derivative with respect to a value that a function with a custom VJP rule closes over",
        UnsupportedError,
        " (Detected differentiation of a custom_vjp function with respect to a closed-over value)",
    ),
]


def from_diagnostics(diagnostics: Sequence[Any]) -> BaseException | None:
    """The error that a pass reported first; None if it is about broken IR, which is our fault."""
    asked = [wanted(str(each.message)) for each in diagnostics]
    if asked[0]:
        return RulesWanted([each for each in asked if each])
    diagnostic = diagnostics[0]
    message = str(diagnostic.message)
    if error := put_off_in(message):
        if not isinstance(error, UnsupportedError):
            return error
        message = str(error)
    if found := _NOT_LINEAR.match(message):
        return NotLinearError(found[1], error_at(message, diagnostic.location))
    # Verifiers of ops begin with the op's name.
    return None if message.startswith("'") else error_at(message, diagnostic.location)


_RULES_OF_JAX = {
    re.compile(r"Batching rule for '(.+?)' not implemented"): (
        "no batching rule for primitive '{}'; register one (bmgrad.extend.register_primitive, "
        "jax.interpreters.batching.primitive_batchers)"
    ),
    re.compile(r"MLIR translation rule for primitive '(.+?)' not found for platform \w+"): (
        "no lowering for primitive '{}'; register one (bmgrad.extend.register_primitive, "
        "jax.interpreters.mlir.register_lowering)"
    ),
}


def reason_without_rule(message: str) -> str:
    """Ours for JAX's `message` that a primitive has no rule, or nothing if it is another."""
    for pattern, text in _RULES_OF_JAX.items():
        if found := pattern.match(message):
            return f"{text.format(found[1])} ({message})"
    return ""


def reason_of_batching(error: BaseException) -> str:
    """What a pass is to say where a batching rule raised `error`, or JAX for want of one."""
    lacks = reason_without_rule(str(error)) if isinstance(error, NotImplementedError) else ""
    return lacks or put_off(error)


def without_rule_of_jax(message: str, location: Callable[[], Any]) -> UnsupportedError | None:
    """The error for JAX's `message` that a primitive has no rule, or None if it is another."""
    reason = reason_without_rule(message)
    return error_at(reason, location()) if reason else None


def error_at(message: str, location: Any) -> UnsupportedError:
    """The error for `message` about what stands at `location`."""
    error, advice = UnsupportedError, ""
    for reason in _REASONS:
        if found := re.match(reason.pattern, message):
            error, advice = reason.error, reason.advice.format(*found.groups())
            break
    where = _FILE.search(str(location))
    return error(message + advice + (f"\n  at {where[1]}:{where[2]}" if where else ""))
