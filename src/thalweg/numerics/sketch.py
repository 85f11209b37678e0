r"""Traces from probes, with and without what the products themselves reveal of the matrix.

From images :math:`Y = A\Omega` of k probes comes an orthonormal basis Q of what A does most; A is
measured exactly on Q and by probes on the rest. The leave-one-out estimators use every probe for
both: the i-th estimate takes the basis :math:`Q_{(i)}` of the other images, which does not know
the probe i, and

.. math:: \operatorname{tr}(F^\top G) \approx \operatorname{tr}(Q_{(i)}^\top F^\top G\,Q_{(i)})
          + \mu_i^\top F^\top G\,\mu_i, \qquad
          \mu_i = \nu_i\,(I - Q_{(i)} Q_{(i)}^\top)\,\omega_i ,

where :math:`\nu_i` gives isotropic probes the length that they have on average there. With F = I
and G = A this is XTrace; with F = G = A it gives the squared Frobenius norm at no further product.

References:
    Epperly, Tropp and Webber, XTrace: making the most of every sample in stochastic trace
    estimation, SIAM Journal on Matrix Analysis and Applications 45, 2024.
    Meyer, Musco, Musco and Woodruff, Hutch++: optimal stochastic trace estimation, 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import final

import torch
from torch import Tensor

from thalweg.errors import NonFiniteError
from thalweg.numerics.probes import Probes
from thalweg.numerics.tall import column_dots, inner, orthonormal


__all__ = ["Form", "LeaveOneOut", "Sketch", "spread"]

Columns = Callable[[Tensor], Tensor]
Form = tuple[int | None, int | None]  # the maps F and G; None is the identity
_BLOCK = 16  # columns multiplied at a time


@final
class Sketch:
    r"""Images of probes under one or more maps, and of a basis of the first map's images.

    Args:
        maps: The maps, n x K columns to n x K columns each.
        probes: Where probes come from.
        keep: Whether probes and images are kept, which :meth:`complete` needs: three matrices of n
            rows and a column for each probe, and one more for each further map.

    Example:
        >>> scale = torch.linspace(1.0, 0.0, 50)[:, None] ** 8
        >>> sketch = Sketch([lambda v: scale * v], Probes(50, "sphere"), keep=True)
        >>> sketch.sample(10)
        >>> sketch.complete()
        >>> estimates, _ = sketch.leave_one_out().traces((None, 0))
        >>> estimates.mean().item(), scale.sum().item()
        (5.9, 5.9)
    """

    def __init__(self, maps: Sequence[Columns], probes: Probes, *, keep: bool) -> None:
        self.maps = list(maps)
        self.source = probes
        self.keep = keep
        self.products = 0  # with the first map
        self.watchers: list[Callable[[Tensor, list[Tensor]], None]] = []
        self.after: Callable[[int], None] | None = None
        self._probes: list[Tensor] = []
        self._images: list[list[Tensor]] = [[] for _ in self.maps]
        self._basis: Tensor | None = None
        self._triangle = torch.zeros(0, 0, dtype=torch.float64)
        self._basis_images: list[Tensor] = []

    def sample(self, count: int) -> None:
        """Draw ``count`` more probes and multiply them; watchers see probes and images."""
        for start in range(0, count, _BLOCK):
            probes = self.source.draw(min(_BLOCK, count - start))
            images = self._multiply(probes)
            for watch in self.watchers:
                watch(probes, images)
            if self.keep:
                self._probes.append(probes)
                for store, image in zip(self._images, images, strict=True):
                    store.append(image)

    def complete(self) -> None:
        """Extend the basis to all images that are kept, and multiply its new columns."""
        images = _joined(self._images[0])
        done = 0 if self._basis is None else self._basis.shape[1]
        if images.shape[1] == done:
            return
        fresh, column = self._extended(images[:, done:])
        width = fresh.shape[1]
        blocks = [self._multiply(part) for part in fresh.split(_BLOCK, dim=1)]
        fresh_images = [_joined([block[j] for block in blocks]) for j in range(len(self.maps))]
        if self._basis is None:
            self._basis, self._basis_images = fresh, fresh_images
        else:
            self._basis = _joined([self._basis, fresh])
            pairs = zip(self._basis_images, fresh_images, strict=True)
            self._basis_images = [_joined([old, new]) for old, new in pairs]
        triangle = column.new_zeros(done + width, done + width)
        triangle[:done, :done] = self._triangle
        triangle[:, done:] = column
        self._triangle = triangle

    def forget(self) -> None:
        """Drop what is kept, and keep nothing from now on."""
        self.keep = False
        self._probes, self._images, self._basis = [], [[] for _ in self.maps], None
        self._basis_images, self._triangle = [], self._triangle[:0, :0]

    def leave_one_out(self, count: int | None = None) -> LeaveOneOut:
        """The estimators of the first ``count`` probes (default: all); needs :meth:`complete`."""
        assert self._basis is not None, "complete() comes first"
        k = self._basis.shape[1] if count is None else count
        return LeaveOneOut(
            [_joined(self._probes)[:, :k], *(_joined(i)[:, :k] for i in self._images)],
            [self._basis[:, :k], *(z[:, :k] for z in self._basis_images)],
            self._triangle[:k, :k],
            resphere=self.source.isotropic,
        )

    def held_out(self, form: Form) -> Tensor:
        """One estimate of tr(F'G) for each probe that came after the basis: Hutch++."""
        assert self._basis is not None, "complete() comes first"
        left, right = (0 if j is None else j + 1 for j in form)
        basis = [self._basis, *self._basis_images]
        k = basis[0].shape[1]
        probes = [_joined(self._probes)[:, k:], *(_joined(i)[:, k:] for i in self._images)]
        inside = inner(basis[0], probes[0])
        core = inner(basis[left], basis[right])
        rest = column_dots(probes[left], probes[right]) + (inside * (core @ inside)).sum(0)
        rest -= (inner(basis[right], probes[left]) * inside).sum(0)
        rest -= (inner(basis[left], probes[right]) * inside).sum(0)
        return core.trace() + rest

    def _multiply(self, columns: Tensor) -> list[Tensor]:
        images = [apply(columns) for apply in self.maps]
        if not all(bool(image.isfinite().all()) for image in images):
            raise NonFiniteError("A product with the operator holds NaN or infinite entries.")
        self.products += columns.shape[1]
        if self.after is not None:
            self.after(columns.shape[1])
        return images

    def _extended(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """New basis vectors, and the images' coordinates in the old and the new ones."""
        old = self._basis
        if old is None:
            return orthonormal(images)
        first = inner(old, images)
        rest = images - old @ first.to(images.dtype)
        second = inner(old, rest)
        rest = rest - old @ second.to(images.dtype)
        fresh, triangle = orthonormal(rest)
        # Where the rest was rounding error, its direction is none: once more against the old.
        third = inner(old, fresh)
        fresh, correction = orthonormal(fresh - old @ third.to(images.dtype))
        return fresh, torch.cat([first + second + third @ triangle, correction @ triangle])


@final
class LeaveOneOut:
    """The leave-one-out estimates of a completed :class:`Sketch`, which makes them.

    Args:
        probes: The probes, and their images under each map.
        basis: The basis, and its images under each map.
        triangle: The images of the first map in the basis.
        resphere: Whether what is left of a probe is given its average length.
    """

    def __init__(
        self,
        probes: Sequence[Tensor],
        basis: Sequence[Tensor],
        triangle: Tensor,
        *,
        resphere: bool,
    ) -> None:
        self._probes = probes
        self._basis = basis
        n, k = probes[0].shape
        left, size, right = torch.linalg.svd(triangle)
        kept = size > 8 * torch.finfo(probes[0].dtype).eps * size[0]
        self._all = bool(kept.all())
        # The i-th column of R^-T is orthogonal to all other columns of R: what Q_(i) lacks of Q.
        # Where the images' rank is less than their number, leaving one out leaves nothing out.
        dropped = left @ (right / size[:, None]) if self._all else torch.zeros_like(left)
        self._dropped = dropped / torch.linalg.vector_norm(dropped, dim=0).clamp_min(1e-300)
        span = left[:, kept]
        self._span = span @ span.T
        self._coordinates = inner(basis[0], probes[0])  # Q'Omega
        inside = self._span @ self._coordinates
        # What Q_(i)Q_(i)' takes from probe i.
        self._inside = inside - self._dropped * (self._dropped * inside).sum(0)
        self._resphere = resphere
        self._dimension = n - (k - 1 if self._all else int(kept.sum()))
        self._length = column_dots(probes[0], probes[0])

    def traces(self, form: Form) -> tuple[Tensor, Tensor]:
        r"""One estimate of tr(F'G) for each probe, and how each depends on each other probe.

        The estimates are not independent: the j-th probe is in the basis of the i-th estimate. The
        second result is :math:`D_{ij}`, what the i-th estimate loses where the basis does without
        the probe j too; :func:`spread` takes it into account.

        Args:
            form: The places of F and G among the maps; None is the identity.

        Returns:
            k estimates and k x k differences, in float64.
        """
        left, right = (0 if j is None else j + 1 for j in form)
        core = inner(self._basis[left], self._basis[right])
        linear = inner(self._basis[right], self._probes[left])
        linear += inner(self._basis[left], self._probes[right])
        square = column_dots(self._probes[left], self._probes[right])
        taken, dropped, n = self._inside, self._dropped, self._dimension
        image = core @ dropped
        rest = square - (linear * taken).sum(0) + (taken * (core @ taken)).sum(0)
        exact = (self._span * core.T).sum() - (dropped * image).sum(0)
        length = self._length - taken.square().sum(0)
        estimates = exact + self._factor(n, length) * rest
        changes = torch.zeros_like(core)
        if not self._all:
            return estimates, changes
        symmetric = core + core.T
        for i, u, norm in self._pairs():
            overlap = dropped[:, i] @ dropped
            ku = (image - image[:, i : i + 1] * overlap) / norm
            uku = (u * ku).sum(0)
            along = u.T @ taken[:, i]  # of probe i; the basis without j no longer takes it
            kept = rest[i] + along * (u.T @ linear[:, i])
            kept += along.square() * uku - along * (u.T @ (symmetric @ taken[:, i]))
            fewer = exact[i] - uku + self._factor(n + 1, length[i] + along.square()) * kept
            changes[i] = estimates[i] - fewer
        return estimates, changes.fill_diagonal_(0.0)

    def left_over(self) -> float:
        """The share of the squared Frobenius norm that a basis without one's own probe misses."""
        core = inner(self._basis[1], self._basis[1])
        square = column_dots(self._probes[1], self._probes[1])
        cross = (inner(self._basis[1], self._probes[1]) * self._inside).sum(0)
        rest = square - 2 * cross + (self._inside * (core @ self._inside)).sum(0)
        return float(rest.sum() / square.sum()) if bool(square.any()) else 0.0

    def _factor(self, dimension: int, length: Tensor) -> Tensor | float:
        """Isotropic probes are given the length that they have on average in what is left."""
        return dimension / length.clamp_min(1e-12) if self._resphere else 1.0

    def diagonals(self) -> tuple[Tensor, Tensor]:
        """The mean over probes of the estimates of diag(A), and its standard error by entry."""
        basis, images = self._basis[0], self._basis[1]
        dtype = basis.dtype
        exact = (basis * (images @ self._span.to(dtype))).sum(1, dtype=torch.float64)
        total = torch.zeros_like(exact)
        squares = torch.zeros_like(exact)
        count = self._probes[0].shape[1]
        for i in range(count):
            taken, dropped = self._inside[:, i].to(dtype), self._dropped[:, i].to(dtype)
            probe = self._probes[0][:, i]
            change = probe * (self._probes[1][:, i] - images @ taken)
            change = change.double() - (basis @ dropped).double() * (images @ dropped).double()
            total += change
            squares += change.square()
        variance = (squares - total.square() / count).clamp_min(0) / max(1, count - 1)
        return exact + total / count, ((1.0 + self._sharing()) * variance / count).sqrt()

    def _sharing(self) -> float:
        """By what share the entries' variance grows because estimates share probes.

        As in :func:`spread`, from some of the entries: one number for all of them.
        """
        count = self._probes[0].shape[1]
        if not self._all or count < 3:
            return 0.0
        rows = max(8, min(256, int(2e8 / count**3)))
        step = max(1, len(self._probes[0]) // rows)
        probes, basis = self._probes[0][::step].double(), self._basis[0][::step].double()
        images = self._basis[1][::step].double()
        answers = self._probes[1][::step].double() - images @ self._inside
        lost = (basis @ self._dropped) * (images @ self._dropped)
        plain = probes * answers - lost
        changes = plain.new_zeros(len(plain), count, count)
        for i, u, _ in self._pairs():
            image = images @ u
            along = u.T @ self._inside[:, i]
            changes[:, i] = (basis @ u) * image - probes[:, i : i + 1] * image * along
            changes[:, i, i] = 0.0
        mixed = changes - changes.sum(2, keepdim=True) / (count - 1)
        mixed.diagonal(dim1=1, dim2=2).zero_()
        covariance = float((mixed * mixed.mT).sum()) / (count * (count - 1))
        alone = float(plain.var(dim=1).sum()) / count
        return max(0.0, covariance / alone) if alone > 0 else 0.0

    def _pairs(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each probe i, its u_j: what the basis lacks without j too, orthogonal to s_i."""
        dropped = self._dropped
        overlap = dropped.T @ dropped
        for i in range(dropped.shape[1]):
            norm = (1 - overlap[i].square()).clamp_min(1e-12).sqrt()
            yield i, (dropped - dropped[:, i : i + 1] * overlap[i]) / norm, norm


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def spread(samples: Tensor, changes: Tensor | None = None) -> float:
    r"""The standard error of the mean of samples, of leave-one-out estimates with ``changes``.

    With :math:`b_{ij} = D_{ij} - \bar D_{i\cdot}`, the part of the i-th estimate that the probes i
    and j make together, the covariance of two estimates is :math:`\mathbb E[b_{ij} b_{ji}]`, and

    .. math:: s^2 = \tfrac1k \operatorname{var}(x) + \mathbb E[b_{ij} b_{ji}] .

    The first term alone, which takes the estimates for independent, is too small by up to a half.

    Args:
        samples: k samples.
        changes: k x k differences, as :meth:`LeaveOneOut.traces` gives; None: independent samples.

    Returns:
        The standard error; infinite for fewer than two samples.

    Example:
        >>> spread(torch.tensor([1.0, 3.0]))
        1.0
    """
    k = len(samples)
    if k < 2:
        return float("inf")
    covariance = 0.0
    if changes is not None:
        mixed = changes - changes.sum(1, keepdim=True) / (k - 1)
        mixed.fill_diagonal_(0.0)
        covariance = float((mixed * mixed.T).sum()) / (k * (k - 1))
    return (float(samples.var()) / k + max(0.0, covariance)) ** 0.5
