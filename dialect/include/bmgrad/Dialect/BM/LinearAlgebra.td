//===- LinearAlgebra.td - Solves and decompositions of matrices -*- tablegen -*-===//
//
// An operand's last two dimensions are a matrix, those before them a batch. The
// kernels are those of vendors' libraries (LAPACK, cuSOLVER, ...), which JAX
// picks per platform; the derivative rules are in Solves.cpp, Decompositions.cpp
// and Spectral.cpp. `^H` is the conjugate transpose.
//
// Sources of the rules: Giles, Collected Matrix Derivative Results (2008);
// Seeger et al., Auto-Differentiating Linear Algebra (2017); Murray,
// Differentiation of the Cholesky Decomposition (2016); de Hoog, Anderssen and
// Lukas, Differentiation of Matrix Functionals Using Triangular Factorization
// (2011); Walter and Lehmann, Algorithmic Differentiation of Linear Algebra
// Functions (2010); Wan and Zhang, Automatic Differentiation for Complex Valued
// SVD (2019); Golub and Van Loan, Matrix Computations, 7.6.3 and 7.7.1, for the
// perturbation of the Schur form.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_LINEARALGEBRA_TD
#define BMGRAD_DIALECT_BM_LINEARALGEBRA_TD

include "bmgrad/Dialect/BM/BMBase.td"

def BM_IndexTensor : StaticShapeTensorOf<[I32]>;

/// An op that a vendor's library computes.
class BM_Matrix<string mnemonic, list<Trait> traits = []>
    : BM_Op<mnemonic, !listconcat(traits, BM_HasJvp, BM_HasBatching, BM_HasLowering)> {
  code batching = BM_LeadingBatching;
  let definition = !strconcat(batching, BM_KernelLowering);
  let hasVerifier = 1;
}

def BM_TriangleOp
    : BM_Op<"triangle", !listconcat([AllTypesMatch<["x", "r"]>], BM_HasJvp, BM_HasTranspose,
                                    BM_HasBatching, BM_HasLowering)> {
  let summary = "One triangle of a matrix, the rest zero";
  let description = [{
    With `lower`, `r[i, j] = x[i, j]` where `j - i <= diagonal`, else where `j - i >= diagonal`; 0 elsewhere.
    Linear, its own transpose; one op rather than a mask, so that no mask is kept for the reverse pass. Example:
    ```mlir
    %1 = bm.triangle %0 {lower, diagonal = -1 : i64} : tensor<5x3x3xf32>
    ```
  }];
  let primitives = [];
  let arguments = (ins BM_InexactTensor:$x, UnitAttr:$lower,
                       DefaultValuedAttr<I64Attr, "0">:$diagonal);
  let results = (outs BM_InexactTensor:$r);
  let assemblyFormat = "$x attr-dict `:` type($r)";
  let definition = !strconcat(BM_LinearJvp, BM_LeadingBatching);
  let hasVerifier = 1;
  let hasFolder = 1;
}

//===----------------------------------------------------------------------===//
// Solves
//===----------------------------------------------------------------------===//

def BM_TriangularSolveOp
    : BM_Matrix<"triangular_solve", !listconcat([AllTypesMatch<["b", "r"]>], BM_HasTranspose)> {
  let summary = "Solution of a triangular system of linear equations";
  let description = [{
    `op(a) r = b` if `left_side`, else `r op(a) = b`, where `op` transposes and conjugates as the flags say and
    of `a` only one triangle is read: the lower one if `lower`, without its diagonal if `unit_diagonal`, which
    is then 1. Linear in `b`; `dr = op(a)^-1 (db - op(da) r)`. Example:
    ```mlir
    %2 = bm.triangular_solve %a, %b {left_side, lower} : tensor<3x3xf32>, tensor<3x2xf32>
    ```
  }];
  let arguments = (ins BM_InexactTensor:$a, BM_InexactTensor:$b, UnitAttr:$left_side,
                       UnitAttr:$lower, UnitAttr:$transpose_a, UnitAttr:$conjugate_a,
                       UnitAttr:$unit_diagonal);
  let results = (outs BM_InexactTensor:$r);
  let assemblyFormat = "$a `,` $b attr-dict `:` type($a) `,` type($b)";
  let batching = "";
}

def BM_TridiagonalSolveOp
    : BM_Matrix<"tridiagonal_solve", !listconcat([AllTypesMatch<["lower", "diagonal", "upper"]>,
                                                  AllTypesMatch<["b", "r"]>], BM_HasTranspose)> {
  let summary = "Solution of a tridiagonal system of linear equations";
  let description = [{
    `lower[i] r[i - 1] + diagonal[i] r[i] + upper[i] r[i + 1] = b[i]` for the rows `b[i]`; the first of `lower`
    and the last of `upper` are not read. With `perturb_singular` pivots that vanish are replaced by small
    ones. Linear in `b`. Example:
    ```mlir
    %4 = bm.tridiagonal_solve %l, %d, %u, %b : tensor<5xf32>, tensor<5x2xf32>
    ```
  }];
  let arguments = (ins BM_InexactTensor:$lower, BM_InexactTensor:$diagonal, BM_InexactTensor:$upper,
                       BM_InexactTensor:$b, UnitAttr:$perturb_singular);
  let results = (outs BM_InexactTensor:$r);
  let assemblyFormat = "$lower `,` $diagonal `,` $upper `,` $b attr-dict `:` type($lower) `,` type($b)";
  let batching = "";
}

//===----------------------------------------------------------------------===//
// Triangular and orthogonal factors
//===----------------------------------------------------------------------===//

def BM_CholeskyOp : BM_Matrix<"cholesky", [AllTypesMatch<["x", "r"]>]> {
  let summary = "Cholesky factor of a positive definite matrix";
  let description = [{
    The lower triangular `r` with positive diagonal and `r r^H = x`; NaN if there is none. Only the lower triangle
    of `x` is read, and only its derivative counts. `dr = r phi(r^-1 dx r^-H)`, where `phi` keeps the lower
    triangle and halves the diagonal (Murray 2016). Example: `%1 = bm.cholesky %0 : tensor<5x3x3xf32>`
  }];
  let arguments = (ins BM_InexactTensor:$x);
  let results = (outs BM_InexactTensor:$r);
  let assemblyFormat = "$x attr-dict `:` type($r)";
}

def BM_CholeskyUpdateOp : BM_Matrix<"cholesky_update", [AllTypesMatch<["factor", "r"]>]> {
  let summary = "Cholesky factor after a rank-one update";
  let description = [{
    For an upper triangular `factor`, the upper triangular `r` with `r^T r = factor^T factor + w w^T`. The
    derivative is that of the Cholesky factor of the right-hand side. Example:
    ```mlir
    %2 = bm.cholesky_update %factor, %w : tensor<3x3xf32>, tensor<3xf32>
    ```
  }];
  let arguments = (ins BM_FloatTensor:$factor, BM_FloatTensor:$w);
  let results = (outs BM_FloatTensor:$r);
  let assemblyFormat = "$factor `,` $w attr-dict `:` type($factor) `,` type($w)";
}

def BM_LuOp : BM_Matrix<"lu", [AllTypesMatch<["x", "factors"]>]> {
  let summary = "Factors of a matrix by Gaussian elimination with pivoting";
  let description = [{
    `x[permutation] = L U` with a unit lower triangular `L` below the diagonal of `factors` and an upper triangular
    `U` from the diagonal on; `pivots` are the row exchanges in order. With
    `f = L^-1 dx[permutation] U^-1`, `dL = L tril(f, -1)` and `dU = triu(f) U` (de Hoog et al. 2011). Example:
    ```mlir
    %factors, %pivots, %permutation = bm.lu %0
        : tensor<4x3xf32> -> tensor<4x3xf32>, tensor<3xi32>, tensor<4xi32>
    ```
  }];
  let arguments = (ins BM_InexactTensor:$x);
  let results = (outs BM_InexactTensor:$factors, BM_IndexTensor:$pivots, BM_IndexTensor:$permutation);
  let assemblyFormat = [{
    $x attr-dict `:` type($x) `->` type($factors) `,` type($pivots) `,` type($permutation)
  }];
}

def BM_LuPivotsToPermutationOp : BM_Matrix<"lu_pivots_to_permutation"> {
  let summary = "The permutation that row exchanges amount to";
  let description = [{
    Exchanges `i` with `pivots[i]` in turn, beginning with `0, 1, ..., permutation_size - 1`. Example:
    ```mlir
    %1 = bm.lu_pivots_to_permutation %0 {permutation_size = 4 : i64} : tensor<3xi32> -> tensor<4xi32>
    ```
  }];
  let arguments = (ins BM_IndexTensor:$pivots, I64Attr:$permutation_size);
  let results = (outs BM_IndexTensor:$r);
  let assemblyFormat = "$pivots attr-dict `:` type($pivots) `->` type($r)";
  let definition = !strconcat(BM_ZeroJvp, BM_LeadingBatching, BM_KernelLowering);
}

def BM_QrOp : BM_Matrix<"qr"> {
  let summary = "Orthogonal and triangular factor of a matrix";
  let description = [{
    `x = q r` with orthonormal columns in `q` and an upper triangular `r`; with `pivoting`, the columns
    `permutation` of `x`. Reduced unless `full_matrices`. Of an m by n matrix with m >= n and `c = dx r^-1`,
    `dq = q w + (1 - q q^H) c` with the antihermitian `w` whose lower triangle is that of `q^H c`, and
    `dr = (q^H c - w) r` (Walter and Lehmann 2010); for m < n the first m columns decide. The columns that
    `full_matrices` adds turn as those of a product of Householder reflections do. Example:
    ```mlir
    %q, %r = bm.qr %0 : tensor<4x3xf32> -> tensor<4x3xf32>, tensor<3x3xf32>
    ```
  }];
  let arguments = (ins BM_InexactTensor:$x, UnitAttr:$full_matrices, UnitAttr:$pivoting,
                       OptionalAttr<BoolAttr>:$use_magma);
  let results = (outs BM_InexactTensor:$q, BM_InexactTensor:$upper, Optional<BM_IndexTensor>:$permutation);
  let assemblyFormat = [{
    $x attr-dict `:` type($x) `->` type($q) `,` type($upper) (`,` type($permutation)^)?
  }];
}

//===----------------------------------------------------------------------===//
// Eigenvalues and singular values
//===----------------------------------------------------------------------===//

def BM_EighOp : BM_Matrix<"eigh"> {
  let summary = "Eigenvectors and eigenvalues of a Hermitian matrix";
  let description = [{
    `x v = v diag(w)` with orthonormal columns in `v` and `w` ascending. Only one triangle of `x` is read, the lower
    one if `lower`, and only its derivative counts. With `p = v^H dx v`, `dw` is the diagonal of `p` and
    `dv = v (f o p)`, `f[i, j] = 1 / (w[j] - w[i])` (Giles 2008).

    Where eigenvalues are equal `f` is 0. The first derivative is right of what depends on them symmetrically (sums,
    products, norms) and of what depends on the space that a group of equal eigenvalues spans (the projector on
    it); single vectors of a group have none. What varies with how the group splits lacks the part between its
    vectors, for no rule that has tangents of `v` and `w` alone can hold it: `g'` in `v g(w) v^H`, and so the
    second derivatives of the former. Example:
    ```mlir
    %v, %w = bm.eigh %0 {lower, sort_eigenvalues} : tensor<3x3xf32> -> tensor<3x3xf32>, tensor<3xf32>
    ```
  }];
  let arguments = (ins BM_InexactTensor:$x, UnitAttr:$lower, UnitAttr:$sort_eigenvalues,
                       OptionalAttr<DenseI64ArrayAttr>:$subset_by_index, OptionalAttr<StrAttr>:$algorithm);
  let results = (outs BM_InexactTensor:$v, BM_FloatTensor:$w);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($v) `,` type($w)";
}

def BM_SvdOp : BM_Matrix<"svd"> {
  let summary = "Singular values and vectors of a matrix";
  let description = [{
    `x = u diag(s) vh` with orthonormal columns in `u` and rows in `vh`, and `s` descending; the vectors only if
    `compute_uv`, square matrices of them if `full_matrices`. With `k = u^H dx v = h + t`, the sum of a
    Hermitian and an antihermitian matrix, `ds` is the real diagonal of `k`,
    `u^H du = e o h + g o t` and `v^H dv = e o h - g o t` with `e[i, j] = 1 / (s[j] - s[i])` and
    `g[i, j] = 1 / (s[i] + s[j])`; the imaginary diagonal goes to `du` alone, as in JAX (Wan and Zhang 2019).
    Outside their span the vectors move by `dx v / s` and `dx^H u / s`.

    `e`, `g` and `1 / s` are 0 where they would be infinite, so at equal singular values the first derivative is
    right of sums of them and of `u vh`, where `e` cancels; see `bm.eigh` for what it is not. Example:
    ```mlir
    %s, %u, %vh = bm.svd %0 {compute_uv} : tensor<4x3xf32> -> tensor<3xf32>, tensor<4x3xf32>, tensor<3x3xf32>
    ```
  }];
  let arguments = (ins BM_InexactTensor:$x, UnitAttr:$full_matrices, UnitAttr:$compute_uv,
                       OptionalAttr<DenseI64ArrayAttr>:$subset_by_index, OptionalAttr<StrAttr>:$algorithm);
  let results = (outs BM_FloatTensor:$s, Variadic<BM_InexactTensor>:$vectors);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type(results)";
}

def BM_EigOp : BM_Matrix<"eig"> {
  let summary = "Eigenvalues and eigenvectors of any square matrix";
  let description = [{
    `x v = v diag(w)`, and `vl^H x = diag(w) vl^H` for the left eigenvectors, which come first. The columns have
    length 1 and a real largest component, as LAPACK makes them. With `p = v^-1 dx v`, `dw` is the diagonal of
    `p`, and `dv = v (f o p)` plus what keeps that norm, `f[i, j] = 1 / (w[j] - w[i])`, 0 for equal
    eigenvalues. Vectors have a derivative if `enable_eigvec_derivs` says that they may. Example:
    ```mlir
    %w, %v = bm.eig %0 {compute_right_eigenvectors}
        : tensor<3x3xf32> -> tensor<3xcomplex<f32>>, tensor<3x3xcomplex<f32>>
    ```
  }];
  let arguments = (ins BM_InexactTensor:$x, UnitAttr:$compute_left_eigenvectors,
                       UnitAttr:$compute_right_eigenvectors, UnitAttr:$enable_eigvec_derivs,
                       OptionalAttr<StrAttr>:$implementation);
  let results = (outs BM_ComplexTensor:$w, Variadic<BM_ComplexTensor>:$vectors);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type(results)";
}

def BM_SchurOp : BM_Matrix<"schur"> {
  let summary = "Schur form of a square matrix";
  let description = [{
    `x = z t z^H` with orthonormal columns in `z`, which comes only if `compute_schur_vectors`. A complex `t` is upper
    triangular. A real one has a block of 2 by 2 on its diagonal for each pair of complex eigenvalues, with equal
    diagonal elements and off-diagonal ones of opposite signs, as LAPACK makes them.

    With `p = z^H dx z` and `w = z^H dz`, antihermitian, `dt = p - w t + t w`: what lies below the blocks of `w` is that
    of `bm.commutator_solve`, which keeps `dt` zero there, and within a block `w` keeps its diagonal elements equal.
    The phases of complex columns are not determined; their tangent is 0. It is 0 as well between equal eigenvalues,
    and in blocks that are a rotation and a scaling. Example:
    ```mlir
    %t, %z = bm.schur %0 {compute_schur_vectors} : tensor<3x3xf32> -> tensor<3x3xf32>, tensor<3x3xf32>
    ```
  }];
  let arguments = (ins BM_InexactTensor:$x, UnitAttr:$compute_schur_vectors);
  let results = (outs BM_InexactTensor:$t, Optional<BM_InexactTensor>:$z);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($t) (`,` type($z)^)?";
}

def BM_CommutatorSolveOp
    : BM_Matrix<"commutator_solve", !listconcat([AllTypesMatch<["t", "p", "r"]>], BM_HasTranspose)> {
  let summary = "The turn that keeps a triangular matrix triangular";
  let description = [{
    The strictly lower triangular `r` for which `r t - t r` has the strictly lower triangle of `p`; 0 in place of
    what equal diagonal elements of the upper triangular `t` leave open. If `transpose`, the transpose of that map of `p`.
    Nothing else of `t` and `p` is read. Linear in `p`; `dr` is that of `dp - (r dt - dt r)`. Example:
    ```mlir
    %1 = bm.commutator_solve %t, %p : tensor<5x3x3xf32>
    ```
  }];
  let primitives = [];
  let arguments = (ins BM_InexactTensor:$t, BM_InexactTensor:$p, UnitAttr:$transpose);
  let results = (outs BM_InexactTensor:$r);
  let assemblyFormat = "$t `,` $p attr-dict `:` type($r)";
}

#endif // BMGRAD_DIALECT_BM_LINEARALGEBRA_TD
