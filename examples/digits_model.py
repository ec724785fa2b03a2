"""The recurrent classifier that `train_digits.py` trains, as classes with variables."""

from __future__ import annotations

from typing import Any

import jax

import bmgrad as bp
import bmgrad.math as bm

CLASSES = 10


class GRU(bp.Base):
    """A gated recurrent unit: `h' = (1 - z) * candidate + z * h`."""

    def __init__(self, num_in: int, num_hidden: int) -> None:
        super().__init__()
        self.w_in = bm.TrainVar(_glorot(num_in, 3 * num_hidden))
        self.w_rec = bm.TrainVar(_glorot(num_hidden, 3 * num_hidden))
        self.b = bm.TrainVar(bm.zeros(3 * num_hidden))

    def __call__(self, h: Any, x: Any) -> Any:
        """The next hidden state, `(batch, hidden)`, from this one and `x`, `(batch, in)`."""
        reset_x, keep_x, new_x = bm.split(bm.dot(x, self.w_in) + self.b, 3, axis=-1)
        reset_h, keep_h, new_h = bm.split(bm.dot(h, self.w_rec), 3, axis=-1)
        reset = bm.sigmoid(reset_x + reset_h)
        keep = bm.sigmoid(keep_x + keep_h)
        return (1 - keep) * bm.tanh(new_x + reset * new_h) + keep * h


class Classifier(bp.Base):
    """Reads an image row by row and says which digit it is.

    `seen` and `right` are state, not parameters: `loss` counts in them, and they come back
    from the compiled gradient like any assignment.
    """

    def __init__(self, num_in: int, num_hidden: int) -> None:
        super().__init__()
        self.num_hidden = num_hidden
        self.cell = GRU(num_in, num_hidden)
        self.w = bm.TrainVar(_glorot(num_hidden, CLASSES))
        self.b = bm.TrainVar(bm.zeros(CLASSES))
        self.seen = bm.Variable(bm.zeros(()))
        self.right = bm.Variable(bm.zeros(()))

    def logits(self, images: Any) -> Any:
        """`(batch, 10)` from images `(batch, rows, columns)`."""
        rows = bm.moveaxis(images, 1, 0)
        # A loop of JAX: it stays a loop in our IR, and its reverse is one too.
        start = bm.zeros((images.shape[0], self.num_hidden))
        h, _ = jax.lax.scan(lambda h, row: (self.cell(h, row), None), start, rows)
        return bm.dot(h, self.w) + self.b

    def loss(self, images: Any, labels: Any) -> Any:
        """Mean cross-entropy."""
        scores = self.logits(images)
        self.seen += labels.shape[0]
        self.right += (bm.argmax(scores, axis=-1) == labels).sum()
        return -(bm.log_softmax(scores) * bm.one_hot(labels, CLASSES)).sum(axis=-1).mean()

    def accuracy(self, images: Any, labels: Any) -> Any:
        return (bm.argmax(self.logits(images), axis=-1) == labels).mean()


def _glorot(num_in: int, num_out: int) -> Any:
    bound = (6 / (num_in + num_out)) ** 0.5
    return bm.random.uniform(-bound, bound, (num_in, num_out))
