//! Matrix products in main memory, with checked slices. Products in f32 use Tallow's kernels for AVX-512 or AVX2,
//! and the crate `gemm` on other processors. Products with factors in bf16 use the processor's units for bf16.

pub(crate) mod int8;
#[cfg_attr(not(target_arch = "x86_64"), path = "panels/absent.rs")]
mod panels;
mod small;
#[cfg_attr(not(target_arch = "x86_64"), path = "tiles/absent.rs")]
mod tiles;
mod transpose;

use crate::path::{Path, path};
use crate::profile::{Operation, Span, span_of};
use gemm::Parallelism;
use std::ops::Range;
use std::sync::OnceLock;

pub(crate) use small::{Left, Right, small_product};
pub(crate) use transpose::transpose;

/// The arithmetic of matrix products. Values, sums and gradients are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compute {
    /// 32-bit floating point.
    #[default]
    F32,
    /// Each factor is split into three parts of bfloat16, as exact as f32, if the processor has AMX; f32 otherwise. It
    /// pays with many rows and if AMX is many times as fast as vectors, which is not so on every virtual machine.
    Bf16x3,
    /// Factors rounded to bfloat16, if the processor has a unit for it; f32 otherwise.
    Bf16,
}

impl Compute {
    /// The engine for such products on this machine.
    pub(crate) fn engine(self) -> Engine {
        /// One engine for each kind of arithmetic.
        static DETECTED: OnceLock<[Engine; 3]> = OnceLock::new();
        let panels = |processor: Option<panels::Processor>| processor.map_or(Engine::Gemm, Engine::Panels);
        match path() {
            Path::Baseline => return Engine::Gemm,
            Path::Avx2 => return panels(panels::Processor::avx2()),
            Path::Fast | Path::Reference => {}
        }
        let [f32, parts, bf16] = DETECTED.get_or_init(|| {
            let f32 = panels(panels::Processor::detect());
            let tiles = |factors| tiles::Unit::detect(factors).map_or(f32, Engine::Tiles);
            [f32, tiles(tiles::Factors::Parts), tiles(tiles::Factors::Rounded)]
        });
        match self {
            Self::F32 => *f32,
            Self::Bf16x3 => *parts,
            Self::Bf16 => *bf16,
        }
    }

    /// The name of the unit for such products; `None` if they are computed in vectors of f32.
    pub fn unit_name(self) -> Option<&'static str> {
        match self.engine() {
            Engine::Gemm | Engine::Panels(_) => None,
            Engine::Tiles(unit) => Some(unit.name()),
        }
    }
}

/// The implementation of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    /// The crate `gemm`, in f32.
    Gemm,
    /// Tallow's kernels, in f32.
    Panels(panels::Processor),
    /// Tiles of bf16.
    Tiles(tiles::Unit),
}

/// A matrix of f32 values whose rows or columns are contiguous.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// The distance from one row to the next, and from one column to the next.
    strides: (usize, usize),
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows follow each other without gaps.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::with_stride(values, rows, columns, columns)
    }

    /// A matrix whose rows begin `stride` values apart.
    pub(crate) fn with_stride(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(
            reach(rows, columns, stride) <= values.len(),
            "a matrix of {rows} x {columns} with a row stride of {stride} in {} values",
            values.len()
        );
        Self {
            values,
            rows,
            columns,
            strides: (stride, 1),
        }
    }

    /// A profiler span for the product of this matrix with one of `columns` columns.
    pub(crate) fn span(self, operation: Operation, columns: usize) -> Span {
        span_of(operation, 2 * (self.rows * self.columns * columns) as u64)
    }

    /// `count` rows starting at `first`, or all that are left.
    fn some_rows(self, first: usize, count: usize) -> Self {
        Self {
            values: self.values.get(first * self.strides.0..).unwrap_or(&[]),
            rows: count.min(self.rows - first),
            ..self
        }
    }

    /// `count` columns starting at `first`, which exist.
    fn some_columns(self, first: usize, count: usize) -> Self {
        self.t().some_rows(first, count).t()
    }

    /// The transposed matrix, on the same values.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            strides: (self.strides.1, self.strides.0),
            ..self
        }
    }
}

/// A matrix of f32 values for output, whose rows begin `stride` values apart.
pub(crate) struct Output<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) stride: usize,
}

/// The values to which a product is added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Into<'a> {
    /// None: the product replaces the values of the output.
    Set,
    /// The values of the output.
    Add,
    /// The same row of values for every row of the output. The sums replace the values of the output.
    Bias(&'a [f32]),
}

/// The number of values that a matrix spans.
fn reach(rows: usize, columns: usize, stride: usize) -> usize {
    assert!(
        columns <= stride || rows <= 1,
        "rows of {columns} values overlap at a stride of {stride}"
    );
    if rows == 0 || columns == 0 {
        0
    } else {
        (rows - 1) * stride + columns
    }
}

/// The multiple at which [`product_prepared_columns`] begins: no form of an operand has blocks of columns that go
/// beyond one.
pub(crate) const COLUMNS: usize = 64;

/// A right operand that is prepared once and used in several products.
pub(crate) struct Prepared<'a>(State<'a>);

enum State<'a> {
    /// Not prepared.
    Fresh(Operand<'a>),
    Panels(panels::Packed),
    Tiles(tiles::Packed),
}

impl Prepared<'static> {
    /// A right operand in packed form; `None` if the engine uses matrices as they are.
    pub(crate) fn packed(engine: Engine, b: Matrix) -> Option<Self> {
        match engine {
            Engine::Gemm => None,
            Engine::Panels(processor) => Some(Self(State::Panels(panels::Packed::new(processor, b)))),
            Engine::Tiles(unit) => Some(Self(State::Tiles(tiles::Packed::new(unit, b)))),
        }
    }
}

impl<'a> Prepared<'a> {
    /// The size of the packed form in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.0 {
            State::Fresh(_) => 0,
            State::Panels(packed) => packed.bytes(),
            State::Tiles(packed) => packed.bytes(),
        }
    }

    pub(crate) fn new(engine: Engine, b: Matrix<'a>) -> Self {
        Self(match engine {
            Engine::Gemm => State::Fresh(Operand::Gemm(b)),
            Engine::Panels(processor) => State::Panels(panels::Packed::new(processor, b)),
            Engine::Tiles(unit) => State::Tiles(tiles::Packed::new(unit, b)),
        })
    }

    /// A right operand for this many products. For a single product it is packed piece by piece, in memory that is
    /// reused.
    pub(crate) fn for_uses(engine: Engine, b: Matrix<'a>, uses: usize) -> Self {
        if uses > 1 {
            Self::new(engine, b)
        } else {
            Self(State::Fresh(Operand::new(engine, b)))
        }
    }

    fn operand(&self) -> Operand<'_> {
        match &self.0 {
            State::Fresh(operand) => *operand,
            State::Panels(packed) => Operand::Panels(panels::Right::packed(packed)),
            State::Tiles(packed) => Operand::Tiles(tiles::Right::packed(packed)),
        }
    }
}

/// A right operand in the form of its engine.
#[derive(Clone, Copy)]
enum Operand<'a> {
    Gemm(Matrix<'a>),
    Panels(panels::Right<'a>),
    Tiles(tiles::Right<'a>),
}

impl<'a> Operand<'a> {
    /// Its rows and columns.
    fn shape(self) -> (usize, usize) {
        match self {
            Self::Gemm(b) => (b.rows, b.columns),
            Self::Panels(b) => b.shape(),
            Self::Tiles(b) => b.shape(),
        }
    }

    /// Some of its columns, which exist; the first is a multiple of [`COLUMNS`].
    fn some_columns(self, first: usize, count: usize) -> Self {
        match self {
            Self::Gemm(b) => Self::Gemm(b.some_columns(first, count)),
            Self::Panels(b) => Self::Panels(b.some_columns(first, count)),
            Self::Tiles(b) => Self::Tiles(b.some_columns(first, count)),
        }
    }

    fn new(engine: Engine, b: Matrix<'a>) -> Self {
        match engine {
            Engine::Gemm => Self::Gemm(b),
            Engine::Panels(processor) => Self::Panels(panels::Right::Fresh(processor, b)),
            Engine::Tiles(unit) => Self::Tiles(tiles::Right::Fresh(unit, b)),
        }
    }
}

/// Computes the product of `a` and `b`, and adds it to the values that `into` names.
///
/// It runs on the calling thread. A large product also uses Rayon's threads, if the process has more than one.
///
/// # Panics
/// When the shapes do not fit. The caller must check them first.
pub(crate) fn product(engine: Engine, output: Output, a: Matrix, b: Matrix, into: Into) {
    product_of(output, a, Operand::new(engine, b), into);
}

/// [`product`] with a prepared right operand.
pub(crate) fn product_prepared(output: Output, a: Matrix, b: &Prepared, into: Into) {
    product_of(output, a, b.operand(), into);
}

/// [`product_prepared`] over some columns of the right operand. The output holds only these columns, and so does a
/// bias. With Tallow's kernels, they equal those of the whole product, to the bit.
///
/// # Panics
/// As for [`product`], or when the first column is not a multiple of [`COLUMNS`], or the last does not exist.
#[allow(dead_code, reason = "for output layers that are computed block by block")]
pub(crate) fn product_prepared_columns(output: Output, a: Matrix, b: &Prepared, columns: Range<usize>, into: Into) {
    let b = b.operand();
    let all = b.shape().1;
    assert!(
        columns.start.is_multiple_of(COLUMNS) && columns.start <= columns.end && columns.end <= all,
        "columns {columns:?} of {all}, from a multiple of {COLUMNS}"
    );
    product_of(output, a, b.some_columns(columns.start, columns.len()), into);
}

#[allow(unsafe_code)]
fn product_of(output: Output, a: Matrix, b: Operand, into: Into) {
    let Output { values, stride } = output;
    let columns = check(a, b, into);
    assert!(
        reach(a.rows, columns, stride) <= values.len(),
        "a product of {} x {columns} at a row stride of {stride} in {} values",
        a.rows,
        values.len()
    );
    // SAFETY: the rows of the output lie inside its slice (asserted), which is borrowed mutably, so that it overlaps
    // neither operand, and is initialised.
    unsafe { product_raw(values.as_mut_ptr(), stride, a, b, into) };
}

/// The product of `a` and `b` in new memory, which is written once. `into` must not be [`Into::Add`].
pub(crate) fn new_product(engine: Engine, a: Matrix, b: Matrix, into: Into) -> Vec<f32> {
    let mut values = Vec::new();
    append(&mut values, a, Operand::new(engine, b), into);
    values
}

/// Appends the product of `a` and `b` to `values`; its memory is written once. `into` must not be [`Into::Add`].
pub(crate) fn append_product(values: &mut Vec<f32>, a: Matrix, b: &Prepared, into: Into) {
    append(values, a, b.operand(), into);
}

#[allow(unsafe_code)]
fn append(values: &mut Vec<f32>, a: Matrix, b: Operand, into: Into) {
    let columns = check(a, b, into);
    assert!(into != Into::Add, "new memory holds nothing to add to");
    let (so_far, count) = (values.len(), a.rows * columns);
    values.reserve(count);
    // SAFETY: behind its values the vector has room for all rows, and `product_raw` writes every element of them: only
    // then are they declared to be there.
    unsafe {
        product_raw(values.as_mut_ptr().add(so_far), columns, a, b, into);
        values.set_len(so_far + count);
    }
}

/// Asserts that the shapes of a product fit, and returns its number of columns.
fn check(a: Matrix, b: Operand, into: Into) -> usize {
    let (inner, columns) = b.shape();
    assert_eq!(
        a.columns, inner,
        "the product of {} x {} and {inner} x {columns}",
        a.rows, a.columns
    );
    if let Into::Bias(bias) = into {
        assert_eq!(
            bias.len(),
            columns,
            "a bias of {} values for {columns} columns",
            bias.len()
        );
    }
    columns
}

/// The minimum number of rows for `gemm`.
///
/// With one row, or with at most 256 results, `gemm` uses other code than its matrix kernels, with another order of
/// additions. Additional rows of zeros avoid that code, so that the result of a row does not depend, to the bit, on the
/// other rows.
pub(crate) fn least_rows(columns: usize) -> usize {
    const SMALL_PRODUCT: usize = 256;
    (SMALL_PRODUCT / columns.max(1) + 1).max(2)
}

/// Computes a product by rows: `part` gets a pointer to some rows of the output, and the same rows of the left operand.
/// Large products are divided among Rayon's threads, which changes no bit.
fn over_rows(output: *mut f32, stride: usize, a: Matrix, columns: usize, part: impl Fn(*mut f32, Matrix) + Sync) {
    /// With fewer multiply-adds than this, another thread does not pay.
    const LEAST_WORK: usize = 1 << 21;
    struct Place(*mut f32);
    // SAFETY: each thread writes to its own rows, which do not overlap, since they are no longer than their distance.
    #[allow(unsafe_code)]
    unsafe impl Sync for Place {}
    /// Threads get multiples of this number of rows: the rows that the kernels process together, or a multiple of them.
    const GRAIN: usize = 32;
    let threads = rayon::current_num_threads().min(a.rows * a.columns * columns / LEAST_WORK);
    let rows = a.rows.div_ceil(threads.max(1)).next_multiple_of(GRAIN);
    if rows >= a.rows {
        part(output, a);
        return;
    }
    let output = &Place(output);
    rayon::scope(|scope| {
        for first in (0..a.rows).step_by(rows) {
            let part = &part;
            scope.spawn(move |_| part(output.0.wrapping_add(first * stride), a.some_rows(first, rows)));
        }
    });
}

/// # Safety
/// The shapes fit ([`check`]). The output holds as many rows of as many values as the product, which begin `stride`
/// values apart; unless it is added to, its values need not be initialised. It overlaps no operand.
#[allow(unsafe_code)]
unsafe fn product_raw(output: *mut f32, stride: usize, a: Matrix, b: Operand, into: Into) {
    let columns = b.shape().1;
    let b = match b {
        Operand::Gemm(b) => b,
        Operand::Panels(b) => {
            over_rows(output, stride, a, columns, |output, a| {
                // SAFETY: the caller's promises, for these rows.
                unsafe { panels::product(output, stride, a, b, into) };
            });
            return;
        }
        Operand::Tiles(b) => {
            over_rows(output, stride, a, columns, |output, a| {
                // SAFETY: the caller's promises, for these rows.
                unsafe { tiles::product(output, stride, a, b, into) };
            });
            return;
        }
    };
    if a.rows == 0 || columns == 0 {
        return;
    }
    let least = least_rows(columns);
    if a.rows < least && a.strides.1 == 1 {
        let mut rows = vec![0f32; least * a.columns];
        for (row, values) in rows.chunks_exact_mut(a.columns.max(1)).take(a.rows).enumerate() {
            values.copy_from_slice(&a.values[row * a.strides.0..][..a.columns]);
        }
        let mut padded = vec![0f32; least * columns];
        for row in 0..if into == Into::Add { a.rows } else { 0 } {
            // SAFETY: the row lies inside the output, which is initialised, because it is added to.
            let values = unsafe { std::slice::from_raw_parts(output.add(row * stride), columns) };
            padded[row * columns..][..columns].copy_from_slice(values);
        }
        let rows = Matrix::new(&rows, least, a.columns);
        // SAFETY: the padded output has as many rows as its product, and now the fewest rows there can be.
        unsafe { product_raw(padded.as_mut_ptr(), columns, rows, Operand::Gemm(b), into) };
        for row in 0..a.rows {
            // SAFETY: the row lies inside the output.
            unsafe {
                let values = padded[row * columns..][..columns].as_ptr();
                output.add(row * stride).copy_from_nonoverlapping(values, columns);
            }
        }
        return;
    }
    if let Into::Bias(bias) = into {
        for row in 0..a.rows {
            // SAFETY: the row lies inside the output, and the bias fills it.
            unsafe {
                output
                    .add(row * stride)
                    .copy_from_nonoverlapping(bias.as_ptr(), columns)
            };
        }
    }
    // SAFETY: the constructors of `Matrix` have shown that every element of the operands lies inside its slice, the
    // caller vouches for the output, which is read only if it has been written; strides in memory fit isize.
    unsafe {
        gemm::gemm(
            a.rows,
            columns,
            a.columns,
            output,
            1,
            stride.cast_signed(),
            into != Into::Set,
            a.values.as_ptr(),
            a.strides.1.cast_signed(),
            a.strides.0.cast_signed(),
            b.values.as_ptr(),
            b.strides.1.cast_signed(),
            b.strides.0.cast_signed(),
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let key = crate::Key::new(seed, crate::Purpose::Initialisation);
        key.normal(count).into_iter().map(|x| x as f32).collect()
    }

    fn by_hand(a: Matrix, b: Matrix, i: usize, j: usize) -> f64 {
        let at = |m: &Matrix, i: usize, j: usize| f64::from(m.values[i * m.strides.0 + j * m.strides.1]);
        (0..a.columns).map(|k| at(&a, i, k) * at(&b, k, j)).sum()
    }

    /// The engines for products in f32 on this machine.
    fn engines() -> Vec<Engine> {
        let mut engines = own_engines();
        engines.push(Engine::Gemm);
        engines
    }

    /// Those of them that are Tallow's kernels: in AVX2, and the widest ones.
    fn own_engines() -> Vec<Engine> {
        let processors = [panels::Processor::avx2(), panels::Processor::detect()];
        let mut engines: Vec<Engine> = processors.into_iter().flatten().map(Engine::Panels).collect();
        engines.dedup_by_key(|engine| format!("{engine:?}"));
        if engines.len() < 2 {
            println!("without the kernels in AVX2 or AVX-512: this machine has not both");
        }
        engines
    }

    /// All engines and layouts, with and without prepared right operands, with gaps between rows, on odd shapes and on
    /// sizes just below and above those of blocks. The values in the gaps do not change.
    #[test]
    fn equals_the_definition() {
        let shapes = [
            (1, 1, 1),
            (0, 3, 2),
            (3, 5, 2),
            (14, 16, 32),
            (17, 33, 19),
            (40, 70, 130),
            (5, 0, 40),
            (2, 3, 0),
            (1, 512, 1),
            (15, 256, 33),
            (29, 519, 48),
            (270, 20, 35),
            (15, 300, 550),
        ];
        for (engine, (rows, inner, columns)) in engines().iter().flat_map(|engine| shapes.map(|shape| (*engine, shape)))
        {
            let (a_gap, b_gap, y_gap) = (3, 1, 2);
            for layout in 0..8 {
                let (a_turned, b_turned, prepared) = (layout & 1 != 0, layout & 2 != 0, layout & 4 != 0);
                let (a_rows, a_columns) = if a_turned { (inner, rows) } else { (rows, inner) };
                let (b_rows, b_columns) = if b_turned { (columns, inner) } else { (inner, columns) };
                let a_values = values(a_rows * (a_columns + a_gap) + 1, 1);
                let b_values = values(b_rows * (b_columns + b_gap) + 1, 2);
                let a = Matrix::with_stride(&a_values, a_rows, a_columns, a_columns + a_gap);
                let b = Matrix::with_stride(&b_values, b_rows, b_columns, b_columns + b_gap);
                let a = if a_turned { a.t() } else { a };
                let b = if b_turned { b.t() } else { b };
                let stride = columns + y_gap;
                let bias = values(columns, 3);
                for into in [Into::Set, Into::Add, Into::Bias(&bias)] {
                    let mut y = vec![0.5f32; rows * stride];
                    let output = Output { values: &mut y, stride };
                    if prepared {
                        product_prepared(output, a, &Prepared::new(engine, b), into);
                    } else {
                        product(engine, output, a, b, into);
                    }
                    for (index, y) in y.iter().enumerate() {
                        let (i, j) = (index / stride, index % stride);
                        let kept = match into {
                            _ if j >= columns => 0.5,
                            Into::Add => 0.5,
                            Into::Set => 0.0,
                            Into::Bias(bias) => f64::from(bias[j]),
                        };
                        let expected = kept + if j < columns { by_hand(a, b, i, j) } else { 0.0 };
                        let error = (f64::from(*y) - expected).abs();
                        assert!(error < 1e-4, "{engine:?} {rows} {inner} {columns}: {y} {expected}");
                    }
                }
            }
        }
    }

    /// Tallow's kernels: other rows and columns do not change an element, to the bit.
    #[test]
    fn an_element_depends_on_its_row_and_column() {
        let (rows, inner, columns) = (290, 300, 600);
        let (a_values, b_values) = (values(rows * inner, 1), values(inner * columns, 2));
        let bias = values(columns, 3);
        for engine in own_engines() {
            let run = |first: usize, count: usize, taken: usize| {
                let a = Matrix::new(&a_values, rows, inner).some_rows(first, count);
                let b = Matrix::with_stride(&b_values, inner, taken, columns);
                new_product(engine, a, b, Into::Bias(&bias[..taken]))
            };
            let all = run(0, rows, columns);
            for (first, count, taken) in [
                (0, 1, 600),
                (13, 2, 1),
                (28, 15, 33),
                (285, 5, 513),
                (4, 7, 255),
                (9, 9, 17),
                (100, 8, 257),
            ] {
                let some = run(first, count, taken);
                for (row, some) in some.chunks_exact(taken).enumerate() {
                    assert_eq!(some, &all[(first + row) * columns..][..taken]);
                }
            }
        }
    }

    /// Tallow's kernels, over several pieces of the inner dimension: layouts, threads and preparation do not change a
    /// bit.
    #[test]
    fn threads_and_layouts_change_nothing() {
        let (rows, inner, columns) = (300, 530, 64);
        let a_values = values(rows * inner, 1);
        let b_values = values(inner * columns, 2);
        let turned = |values: &[f32], rows: usize| {
            let columns = values.len() / rows;
            let at = |i: usize| values[i % rows * columns + i / rows];
            (0..values.len()).map(at).collect::<Vec<f32>>()
        };
        let (a_turned, b_turned) = (turned(&a_values, rows), turned(&b_values, inner));
        let lefts = [
            Matrix::new(&a_values, rows, inner),
            Matrix::new(&a_turned, inner, rows).t(),
        ];
        let rights = [
            Matrix::new(&b_values, inner, columns),
            Matrix::new(&b_turned, columns, inner).t(),
        ];
        let pools = [1, 3].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
        let tiles = [Compute::Bf16x3, Compute::Bf16].map(Compute::engine);
        let tiles = tiles.into_iter().filter(|engine| matches!(engine, Engine::Tiles(_)));
        for engine in own_engines().into_iter().chain(tiles) {
            let mut expected = None;
            for case in 0..16 {
                let (pool, prepared) = (&pools[case & 1], case & 2 != 0);
                let (a, b) = (lefts[case >> 2 & 1], rights[case >> 3]);
                {
                    let mut y = vec![0.5f32; rows * (columns + 2)];
                    let output = Output {
                        values: &mut y,
                        stride: columns + 2,
                    };
                    pool.install(|| {
                        if prepared {
                            product_prepared(output, a, &Prepared::new(engine, b), Into::Add);
                        } else {
                            product(engine, output, a, b, Into::Add);
                        }
                    });
                    assert_eq!(*expected.get_or_insert(y.clone()), y, "{engine:?}");
                }
            }
        }
    }

    /// The kernels for every processor give the same bits.
    #[test]
    fn processors_change_nothing() {
        let (rows, inner, columns) = (45, 600, 75);
        let (a_values, b_values) = (values(rows * inner, 1), values(inner * columns, 2));
        let (a, b) = (
            Matrix::new(&a_values, rows, inner),
            Matrix::new(&b_values, inner, columns),
        );
        let results: Vec<_> = own_engines()
            .into_iter()
            .map(|engine| new_product(engine, a, b, Into::Set))
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }

    /// A product over some columns equals these columns of the whole product, to the bit, in every engine. (That is
    /// not certain with `gemm`, so that engine gets a tolerance.)
    #[test]
    fn columns_of_a_prepared_operand() {
        let (rows, inner, columns) = (37, 300, 700);
        let a_values = values(rows * inner, 1);
        let b_values = values(inner * columns, 2);
        let bias = values(columns, 3);
        let a = Matrix::new(&a_values, rows, inner);
        let rights = [
            Matrix::new(&b_values, inner, columns),
            Matrix::new(&b_values, columns, inner).t(),
        ];
        let tiles = [Compute::Bf16x3, Compute::Bf16].map(Compute::engine);
        let tiles = tiles.into_iter().filter(|engine| matches!(engine, Engine::Tiles(_)));
        for (engine, b) in engines()
            .into_iter()
            .chain(tiles)
            .flat_map(|engine| rights.map(|b| (engine, b)))
        {
            for prepared in [Prepared::new(engine, b), Prepared::for_uses(engine, b, 1)] {
                let mut whole = Vec::new();
                append_product(&mut whole, a, &prepared, Into::Bias(&bias));
                for range in [0..700, 0..64, 64..65, 128..640, 512..700, 576..603, 640..700, 64..64] {
                    let stride = range.len() + 3;
                    for into in [Into::Bias(&bias[range.clone()]), Into::Add, Into::Set] {
                        let mut some = vec![0.5f32; rows * stride];
                        if into == Into::Add {
                            let rows = some.chunks_exact_mut(stride);
                            rows.for_each(|row| row[..range.len()].copy_from_slice(&bias[range.clone()]));
                        }
                        let output = Output {
                            values: &mut some,
                            stride,
                        };
                        product_prepared_columns(output, a, &prepared, range.clone(), into);
                        for (some, whole) in some.chunks_exact(stride).zip(whole.chunks_exact(columns)) {
                            let (some, gap) = some.split_at(range.len());
                            assert_eq!(gap, [0.5; 3]);
                            for (j, (some, whole)) in some.iter().zip(&whole[range.clone()]).enumerate() {
                                let bias = if into == Into::Set { bias[range.start + j] } else { 0.0 };
                                let same = match engine {
                                    Engine::Gemm => (some + bias - whole).abs() < 1e-4,
                                    _ if into == Into::Set => (some + bias - whole).abs() < 1e-4,
                                    _ => some.to_bits() == whole.to_bits(),
                                };
                                assert!(same, "{engine:?}, {range:?}, {into:?}: {some} {whole}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "columns 32..64 of 70, from a multiple of 64")]
    fn columns_begin_at_a_multiple() {
        let (x, mut y) = ([0f32; 70], [0f32; 32]);
        let b = Prepared::new(Compute::F32.engine(), Matrix::new(&x, 1, 70));
        let output = Output {
            values: &mut y,
            stride: 32,
        };
        product_prepared_columns(output, Matrix::new(&[1.0], 1, 1), &b, 32..64, Into::Set);
    }

    #[test]
    #[should_panic(expected = "the product of 2 x 3 and 2 x 3")]
    fn misfits_of_prepared_operands_are_named() {
        let x = [0f32; 6];
        let mut y = [0f32; 6];
        let b = Prepared::new(Compute::F32.engine(), Matrix::new(&x, 2, 3));
        let output = Output {
            values: &mut y,
            stride: 3,
        };
        product_prepared(output, Matrix::new(&x, 2, 3), &b, Into::Set);
    }

    #[test]
    #[should_panic(expected = "the product of 2 x 3 and 2 x 3")]
    fn misfits_are_named() {
        let x = [0f32; 6];
        let mut y = [0f32; 6];
        let output = Output {
            values: &mut y,
            stride: 3,
        };
        product(
            Engine::Gemm,
            output,
            Matrix::new(&x, 2, 3),
            Matrix::new(&x, 2, 3),
            Into::Set,
        );
    }

    #[test]
    #[should_panic(expected = "in 5 values")]
    fn a_matrix_stays_inside_its_values() {
        let _ = Matrix::new(&[0f32; 5], 2, 3);
    }
}
