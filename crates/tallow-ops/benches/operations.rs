//! Times every operation, forward and backward, and compares it with its reference and with the limit of the machine.
//!
//!     cargo bench -p tallow-ops [-- NAME]
//!
//! Kernel and reference alternate, so that other load on the machine affects both. Times are medians on one thread, at
//! the shapes of one worker's share of 4,096 tokens. The limit is the greater of two times: the time of the products'
//! floating-point operations, at the rate of multiply-adds in registers; and the time of reading and writing each
//! input, result and gradient once, at the rate of a copy of 64 MiB. Kernels in bf16, and in parts of it, can be faster
//! than this limit.
#![allow(missing_docs, clippy::print_stdout)]

use candle_core::{Device, Result, Tensor, Var};
use std::hint::black_box;
use std::time::Instant;
use tallow_ops::{
    Activation, AdamOptions, AdamState, AttentionOptions, AttentionSublayerOptions, Compute, Connection,
    CrossEntropyOptions, Dropout, DropoutStream, FeedForwardOptions, Key, NormPlace, Path, Purpose, Sentences,
    adam_update_no_grad, cross_attention_sublayer, cross_entropy, dropout, embed, feed_forward, layer_norm, linear,
    residual_norm, self_attention, self_attention_sublayer, with_path,
};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sentences, tokens of each, width, inner width, heads and pieces.
const SENTENCES: usize = 80;
const TOKENS: usize = 24;
const WIDTH: usize = 256;
const INNER: usize = 1024;
const HEADS: usize = 4;
const PIECES: usize = 8000;
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    // As in training: one thread in each operation.
    for name in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
        // SAFETY: nothing has started a thread or read the environment yet.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, "1");
        }
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let machine = Machine::measure();
    println!(
        "multiply-adds {:.0} GFLOP/s, copies {:.1} GB/s; products in f32 on {}, in parts on {}, in bf16 on {}\n",
        machine.flops / 1e9,
        machine.bytes / 1e9,
        tallow_ops::instruction_set(),
        Compute::Bf16x3.unit_name().unwrap_or("the same, whole"),
        Compute::Bf16.unit_name().unwrap_or("the same, in f32"),
    );
    println!(
        "{:<30}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}",
        "forward + backward", "kernel ms", "AVX2", "baseline", "reference", "ratio", "of limit"
    );
    for case in cases()? {
        if filter.as_ref().is_none_or(|filter| case.name.contains(filter.as_str())) {
            case.run(&machine)?;
        }
    }
    Ok(())
}

/// The measured speed of the machine on one thread.
struct Machine {
    flops: f64,
    bytes: f64,
}

impl Machine {
    fn measure() -> Self {
        const COUNT: usize = 16 << 20;
        let from = vec![1f32; COUNT];
        let mut to = vec![0f32; COUNT];
        let copy = best(|| black_box(&mut to).copy_from_slice(black_box(&from)));
        const LOOPS: usize = 1 << 20;
        let mut sums = [[1f32; 16]; 12];
        let fma = best(|| pulp::Arch::new().dispatch(MultiplyAdd(&mut sums, LOOPS)));
        black_box(sums);
        Self {
            flops: 2.0 * (LOOPS * 12 * 16) as f64 / fma,
            bytes: 2.0 * (COUNT * size_of::<f32>()) as f64 / copy,
        }
    }
}

/// Multiply-adds on twelve independent vectors of sixteen values.
struct MultiplyAdd<'a>(&'a mut [[f32; 16]; 12], usize);

impl pulp::WithSimd for MultiplyAdd<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        let (factor, term) = (simd.splat_f32s(0.999), simd.splat_f32s(1e-3));
        let lanes = S::F32_LANES.min(16);
        let mut vectors = self.0.map(|values| simd.partial_load_f32s(&values[..lanes]));
        for _ in 0..self.1 * 16 / lanes {
            for vector in &mut vectors {
                *vector = simd.mul_add_f32s(*vector, factor, term);
            }
        }
        for (values, vector) in self.0.iter_mut().zip(vectors) {
            simd.partial_store_f32s(&mut values[..lanes], vector);
        }
    }
}

fn best(mut run: impl FnMut()) -> f64 {
    let times = (0..7).map(|_| {
        let begin = Instant::now();
        run();
        begin.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

/// An operation with its inputs.
struct Case {
    name: &'static str,
    run: Box<dyn Fn() -> Result<()>>,
    /// Floating-point operations of its products, forward and backward.
    flops: f64,
    /// Values of inputs and results; each has a gradient of the same size.
    values: usize,
}

impl Case {
    /// A case whose operation is differentiated.
    fn new(
        name: &'static str,
        flops: f64,
        inputs: Vec<Var>,
        operation: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
    ) -> Result<Self> {
        let tensors: Vec<Tensor> = inputs.iter().map(|var| var.as_tensor().clone()).collect();
        let result = operation(&tensors)?;
        let values = tensors.iter().map(Tensor::elem_count).sum::<usize>() + result.elem_count();
        let run = move || {
            let y = operation(&tensors)?;
            black_box(y.backward()?);
            Ok(())
        };
        Ok(Self {
            name,
            run: Box::new(run),
            flops,
            values,
        })
    }

    fn run(&self, machine: &Machine) -> Result<()> {
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            for (path, times) in [Path::Fast, Path::Avx2, Path::Baseline, Path::Reference]
                .into_iter()
                .zip(&mut times)
            {
                let begin = Instant::now();
                with_path(path, || (self.run)())?;
                times.push(begin.elapsed().as_secs_f64());
            }
        }
        let [fast, avx2, baseline, reference] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        // Inputs are read twice, forward and backward; everything else is read or written once.
        let bytes = (3 * self.values * size_of::<f32>()) as f64;
        let limit = (self.flops / machine.flops).max(bytes / machine.bytes);
        println!(
            "{:<30}{:>11.2}{:>11.2}{:>11.2}{:>11.2}{:>11.1}{:>9.0} %",
            self.name,
            1e3 * fast,
            1e3 * avx2,
            1e3 * baseline,
            1e3 * reference,
            reference / fast,
            100.0 * limit / fast
        );
        Ok(())
    }
}

fn connection(output: &Dropout) -> Connection<'_> {
    Connection {
        place: NormPlace::Post,
        residual: true,
        epsilon: 1e-5,
        dropout: Some(output),
    }
}

fn random(seed: u64, shape: &[usize]) -> Result<Var> {
    let values: Vec<f32> = Key::new(seed, Purpose::Initialisation)
        .normal(shape.iter().product())
        .into_iter()
        .map(|x| 0.1 * x as f32)
        .collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn cases() -> Result<Vec<Case>> {
    let rows = SENTENCES * TOKENS;
    let shape = [rows, WIDTH];
    let sentences = Sentences::new(&[TOKENS; SENTENCES])?;
    let map = |inputs: usize, outputs: usize| 6.0 * (rows * inputs * outputs) as f64;
    let attended = 2.0 * 7.0 * (rows * TOKENS * WIDTH) as f64;
    let stream = DropoutStream::new(1, 1, (0..SENTENCES as u64).collect::<Vec<_>>());
    let (output, weights) = (stream.at(1, 0.1, &sentences), stream.at(2, 0.1, &sentences));
    let device = Device::Cpu;
    let labels: Vec<u32> = (0..rows).map(|i| (i * 7919 % (PIECES - 1)) as u32).collect();
    let ids = Tensor::from_vec(labels.clone(), rows, &device)?;

    let mut cases = vec![
        {
            let inputs = vec![random(1, &shape)?, random(2, &[WIDTH, WIDTH])?, random(3, &[WIDTH])?];
            Case::new("linear", map(WIDTH, WIDTH), inputs, |x| {
                linear(&x[0], &x[1], Some(&x[2]), Activation::None, Compute::F32)
            })?
        },
        Case::new(
            "layer norm",
            0.0,
            vec![random(1, &shape)?, random(2, &[2, WIDTH])?],
            |x| layer_norm(&x[0], &x[1], 1e-5),
        )?,
        {
            let output = output.clone();
            Case::new("dropout", 0.0, vec![random(1, &shape)?], move |x| {
                dropout(&x[0], Some(&output))
            })?
        },
        {
            let (inputs, output) = (
                vec![random(1, &shape)?, random(2, &shape)?, random(3, &[2, WIDTH])?],
                output.clone(),
            );
            Case::new("dropout + residual + norm", 0.0, inputs, move |x| {
                residual_norm(&x[0], &x[1], Some(&output), &x[2], 1e-5)
            })?
        },
        {
            let (weights, sentences) = (weights.clone(), sentences.clone());
            let qkv = vec![random(1, &[rows, 3 * WIDTH])?];
            Case::new("attention of all heads", attended, qkv, move |x| {
                let options = AttentionOptions {
                    heads: HEADS,
                    scale: 0.125,
                    dropout: Some(&weights),
                    record: false,
                };
                Ok(self_attention(&x[0], &sentences, true, options)?.context_nd)
            })?
        },
        {
            let inputs = vec![random(1, &[PIECES, WIDTH])?, random(2, &[TOKENS, WIDTH])?];
            let (ids, sentences, output) = (ids.clone(), sentences.clone(), output.clone());
            Case::new("embedding", 0.0, inputs, move |x| {
                embed(&ids, &x[0], 16.0, Some(&x[1]), &sentences, Some(&output))
            })?
        },
        {
            let state = std::cell::RefCell::new(AdamState::new(random(1, &[1 << 20])?.as_tensor())?);
            let (parameter, gradient) = (random(1, &[1 << 20])?, random(2, &[1 << 20])?.as_tensor().clone());
            let options = AdamOptions {
                learning_rate: 1e-3,
                beta1: 0.9,
                beta2: 0.98,
                epsilon: 1e-9,
                weight_decay: 0.0,
                decoupled: false,
                gradient_scale: 1.0,
                step: 10,
            };
            Case {
                name: "Adam, 2^20 parameters",
                run: Box::new(move || {
                    adam_update_no_grad(parameter.as_tensor(), &gradient, &mut state.borrow_mut(), &options)
                }),
                flops: 0.0,
                // The parameter and both moments are read and written, the gradient is read.
                values: (7 << 20) / 3,
            }
        },
    ];
    for (compute, names) in [
        (
            Compute::F32,
            ["feed-forward", "self-attention", "cross-attention", "output and loss"],
        ),
        (
            Compute::Bf16x3,
            [
                "feed-forward, parts",
                "self-attention, parts",
                "cross-attention, parts",
                "output and loss, parts",
            ],
        ),
        (
            Compute::Bf16,
            [
                "feed-forward, bf16",
                "self-attention, bf16",
                "cross-attention, bf16",
                "output and loss, bf16",
            ],
        ),
    ] {
        let packed = random(2, &[2 * WIDTH * INNER + INNER + 3 * WIDTH])?;
        let of_output = output.clone();
        let flops = map(WIDTH, INNER) + map(INNER, WIDTH);
        cases.push(Case::new(
            names[0],
            flops,
            vec![random(1, &shape)?, packed],
            move |x| {
                let options = FeedForwardOptions {
                    inner: INNER,
                    activation: Activation::Relu,
                    inner_dropout: None,
                    connection: connection(&of_output),
                    compute,
                };
                feed_forward(&x[0], &x[1], options)
            },
        )?);
        let packed = random(2, &[4 * WIDTH * WIDTH + 6 * WIDTH])?;
        let flops = map(WIDTH, 4 * WIDTH) + attended;
        let attention = || {
            let (of_output, of_weights) = (output.clone(), weights.clone());
            move |run: &dyn Fn(AttentionSublayerOptions) -> Result<Tensor>| {
                run(AttentionSublayerOptions {
                    heads: HEADS,
                    scale: 0.125,
                    weights_dropout: Some(&of_weights),
                    connection: connection(&of_output),
                    compute,
                    record: None,
                })
            }
        };
        let (of_self, all) = (attention(), sentences.clone());
        cases.push(Case::new(
            names[1],
            flops,
            vec![random(1, &shape)?, packed.clone()],
            move |x| of_self(&|options| self_attention_sublayer(&x[0], &all, true, &x[1], options)),
        )?);
        let (attend_to_memory, all) = (attention(), sentences.clone());
        let inputs = vec![random(1, &shape)?, random(3, &shape)?, packed];
        cases.push(Case::new(names[2], flops, inputs, move |x| {
            attend_to_memory(&|options| cross_attention_sublayer((&x[0], &all), (&x[1], &all), &x[2], options))
        })?);
        let inputs = vec![random(1, &[rows, WIDTH])?, random(2, &[PIECES, WIDTH])?];
        let labels = labels.clone();
        cases.push(Case::new(names[3], map(WIDTH, PIECES), inputs, move |x| {
            let options = CrossEntropyOptions {
                r_drop: None,
                smoothing: 0.1,
                classes: PIECES - 1,
                compute,
            };
            cross_entropy(&x[0], &x[1], None, &labels, options)
        })?);
    }
    Ok(cases)
}
