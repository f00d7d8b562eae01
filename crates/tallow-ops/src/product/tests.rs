//! Products of every engine against the definition.

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
    for (engine, (rows, inner, columns)) in engines().iter().flat_map(|engine| shapes.map(|shape| (*engine, shape))) {
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
