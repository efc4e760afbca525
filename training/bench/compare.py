# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "fastembed==0.9.1",
#     "matplotlib==3.11.2",
#     "numpy",
#     "onnx==1.23.2",
#     "onnxruntime==1.31.1",
#     "sentence-transformers==6.2.0",
#     "tokenizers",
#     "torch==2.15.0",
#     "transformers==5.23.0",
# ]
# ///
"""How long the sentence embedding of all-MiniLM-L6-v2 takes on one core, and how close it stays to f32: onnxruntime,
sentence-transformers, fastembed, candle's operations and Waypost's kernels, all in one run.

    cargo build --release && target/release/waypost models pull all-minilm-l6-v2
    uv run training/bench/compare.py --json target/bench/compare.json --plot target/bench/compare.svg

WAYPOST_BIN names another binary. The first run installs about 6 GB (PyTorch) and exports the ONNX files.

Every side reads the same weights and has one thread, all on the same core, and embeds one text a call. The time is that
of tokenising, encoding, pooling and normalising. Sides called from Python pay for Python; Waypost measures inside its
own process, where it makes nine views of a text while the others make one embedding (what its answer takes to arrive is
in the JSON file as `round_trip_ms`). In each round and at each length every side embeds the same texts, after one call
untimed; the next round starts with the next side, so that a noisy machine disturbs all alike.

Fidelity is measured on held-out prompts against the first side, onnxruntime in f32 by default: cosine, and the share of
prompts whose nearest other prompt is the same, is of the same class, and whose ten nearest have the same most frequent class.

The sides `-avx2` do without AVX-512. onnxruntime has no switch for that, so they are to be compared with one another.
"""

import os

# Read by numpy, torch, candle and the tokenizers when they start.
os.environ |= {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "RAYON")}
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}

import argparse
import itertools
import json
import platform
import random
import shutil
import subprocess
import sys
import time
import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
WAYPOST = Path(os.environ.get("WAYPOST_BIN", ROOT / "target/release/waypost"))
MODEL = Path(os.environ.get("WAYPOST_CACHE", Path.home() / ".cache/waypost")) / "models/all-minilm-l6-v2"
ONNX = ROOT / "target/bench/onnx"
MAX_TOKENS = 256
LENGTHS = (8, 32, 128, MAX_TOKENS)  # tokens, [CLS] and [SEP] included
REFERENCES = ("onnxruntime-f32", "onnxruntime-int8")
PACKAGES = ("onnxruntime", "torch", "transformers", "sentence-transformers", "fastembed", "tokenizers", "numpy")


# The sides. Each opens into a function from a text to its embedding and the seconds it took.


def onnxruntime(file):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_folder() / file, options, providers=["CPUExecutionProvider"])
    tokenizer = open_tokenizer()

    def embed(text):
        ids = np.array([tokenizer.encode(text).ids])
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        # One text has no padding, so the plain mean is the masked one.
        return unit(session.run(None, inputs)[0][0].mean(axis=0))

    return timed(embed)


def sentence_transformers():
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    torch.set_num_threads(1)
    encoder = Transformer(str(MODEL), max_seq_length=MAX_TOKENS)
    pooling = Pooling(encoder.get_embedding_dimension(), "mean")
    model = SentenceTransformer(modules=[encoder, pooling, Normalize()], device="cpu")
    return timed(lambda text: model.encode(text, show_progress_bar=False))


def fastembed():
    from fastembed import TextEmbedding

    name = "sentence-transformers/all-MiniLM-L6-v2"
    model = TextEmbedding(name, threads=1, specific_model_path=str(onnx_folder()))
    return timed(lambda text: next(iter(model.embed([text]))))


def waypost(*flags, **environment):
    # The window is of the router, not of the encoder: all sides read the whole text.
    config = ROOT / "target/bench/whole.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("[embedder]\nwindow_chars = 100_000\n")
    command = [WAYPOST, "embed", "--config", config, "--input", "-", "--output", "-", *flags]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=os.environ | environment)

    def embed(text):
        child.stdin.write(json.dumps({"id": 0, "prompt": text}) + "\n")
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"{WAYPOST} ended with status {child.wait()}")
        answer = json.loads(line)
        return np.array(answer["embedding"], np.float32), answer["micros"] / 1e6

    return embed


SIDES = {
    "onnxruntime-f32": lambda: onnxruntime("model.onnx"),
    "onnxruntime-int8": lambda: onnxruntime("model_int8.onnx"),
    "onnxruntime-int8-fused": lambda: onnxruntime("fused_int8.onnx"),
    "sentence-transformers": sentence_transformers,
    "fastembed": fastembed,
    "candle": lambda: waypost("--precision", "f32", "--candle"),
    "waypost-f32": lambda: waypost("--precision", "f32"),
    "waypost-bf16": lambda: waypost("--precision", "bf16"),
    "waypost-int8": lambda: waypost("--precision", "int8"),
    "waypost-f32-avx2": lambda: waypost("--precision", "f32", WAYPOST_INSTRUCTIONS="avx2"),
    "waypost-int8-avx2": lambda: waypost("--precision", "int8", WAYPOST_INSTRUCTIONS="avx2"),
}


def timed(embed):
    def call(text):
        start = time.perf_counter()
        embedding = embed(text)
        return embedding, time.perf_counter() - start

    return call


def unit(vector):
    return vector / np.linalg.norm(vector)


def open_tokenizer():
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    tokenizer.no_padding()  # the file pads every text to 128 tokens
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def open_sides(names):
    """The sides that run here, and why the others do not."""
    opened, skipped = {}, {}
    for name in names:
        try:
            side = SIDES[name]()
            side("It answers.")
            opened[name] = side
        except Exception as error:  # whatever is missing, the others can be measured
            skipped[name] = f"{type(error).__name__}: {error}"
            print(f"{name} is left out: {skipped[name]}")
    return opened, skipped


# The ONNX files, in the folder that fastembed wants.


@cache
def onnx_folder():
    if not ONNX.exists():
        part = ONNX.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        export(part)
        part.rename(ONNX)
    return ONNX


def export(folder):
    """Writes model.onnx (f32), and two files in int8: quantised as it is, and after onnxruntime's optimizer for BERT
    fused its operators, which makes short texts faster and long ones slower (f32 by a twentieth and a tenth). One scale
    a channel takes no longer than one a matrix, and is far closer to f32."""
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model
    from transformers import AutoModel

    class LastState(torch.nn.Module):
        def __init__(self):
            super().__init__()
            # Of the ways to export (this or sdpa, traced or torch.export), the one that onnxruntime runs fastest.
            self.model = AutoModel.from_pretrained(MODEL, attn_implementation="eager")

        def forward(self, *inputs):
            return self.model(**dict(zip(names, inputs))).last_hidden_state

    warnings.simplefilter("ignore")  # PyTorch advises its newer export
    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.tensor([[101, 7592, 102]] * 2)
    plain, fused = str(folder / "model.onnx"), str(folder / "fused.onnx")
    torch.onnx.export(
        LastState().eval(),
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        plain,
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes={name: {0: "texts", 1: "tokens"} for name in [*names, "last_hidden_state"]},
        opset_version=17,
        dynamo=False,
    )
    model = optimize_model(plain, model_type="bert", num_heads=12, hidden_size=384, opt_level=0)
    model.save_model_to_file(fused)
    for source, target in ((plain, "model_int8.onnx"), (fused, "fused_int8.onnx")):
        quantize_dynamic(
            source,
            folder / target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # that of what fused operators put out
        )
    os.remove(fused)
    for file in ("config.json", "tokenizer.json"):
        shutil.copy(MODEL / file, folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": MAX_TOKENS, "pad_token": "[PAD]"}))


# What is embedded.


def read_prompts(folder, seed):
    lines = itertools.chain.from_iterable(open(file, encoding="utf-8") for file in sorted(folder.glob("*.jsonl")))
    prompts = [json.loads(line) for line in lines]
    random.Random(seed).shuffle(prompts)
    return [(prompt["prompt"], prompt["class"]) for prompt in prompts]


def exact_texts(prompts, tokenizer, length, count):
    """Texts of exactly so many tokens, of the words of one prompt after another; a word of more tokens than are missing
    is left out."""
    words = (word for prompt, _ in prompts for word in prompt.split())
    texts = []
    for _ in range(count):
        chosen, missing = [], length - 2
        while missing:
            word = next(words)
            tokens = len(tokenizer.encode(word, add_special_tokens=False))
            if 0 < tokens <= missing:
                chosen.append(word)
                missing -= tokens
        texts.append(" ".join(chosen))
        assert len(tokenizer.encode(texts[-1])) == length, texts[-1]
    return texts


# Measuring.


def measure_latency(sides, texts, rounds):
    """Seconds a side reports, and seconds until its answer is here, for each length and side."""
    seconds = {length: {name: ([], []) for name in sides} for length in texts}
    names = list(sides)
    for turn in range(rounds):
        for length in texts:
            for name in names:
                own, whole = seconds[length][name]
                sides[name](texts[length][-1])
                for text in texts[length]:
                    start = time.perf_counter()
                    own.append(sides[name](text)[1])
                    whole.append(time.perf_counter() - start)
        names.append(names.pop(0))
        print(f"round {turn + 1} of {rounds}", end="\r", file=sys.stderr)
    return {
        length: {name: summary(*seconds[length][name], by_name) for name in sides}
        for length, by_name in seconds.items()
    }


def summary(own, whole, by_name):
    median = np.median(own)
    ratios = {name: float(np.median(by_name[name][0]) / median) for name in REFERENCES if name in by_name}
    return {
        "median_ms": float(median * 1e3),
        "p99_ms": float(np.percentile(own, 99) * 1e3),
        "min_ms": float(np.min(own) * 1e3),
        "round_trip_ms": float(np.median(whole) * 1e3),
        "times_as_fast_as": ratios,
    }


def measure_fidelity(sides, prompts):
    """Against the first side."""
    embeddings = {name: np.stack([unit(embed(prompt)[0]) for prompt, _ in prompts]) for name, embed in sides.items()}
    names = sorted({name for _, name in prompts})
    classes = np.array([names.index(name) for _, name in prompts])
    reference = embeddings[next(iter(sides))]
    same = lambda answer, own: float(np.mean(answer(own) == answer(reference)))
    return {
        name: {
            "cosine_mean": float(np.mean(np.sum(own * reference, axis=1))),
            "cosine_min": float(np.min(np.sum(own * reference, axis=1))),
            "same_nearest": same(lambda own: nearest(own, 1)[:, 0], own),
            "same_class": same(lambda own: classes[nearest(own, 1)[:, 0]], own),
            "same_vote": same(lambda own: np.array([np.bincount(ten).argmax() for ten in classes[nearest(own, 10)]]), own),
        }
        for name, own in embeddings.items()
    }


def nearest(embeddings, count):
    """Each row's nearest other rows."""
    cosines = embeddings @ embeddings.T
    np.fill_diagonal(cosines, -1)
    return np.argsort(-cosines, axis=1)[:, :count]


def pin_to_core():
    """This process and its children run on the last core alone; `None` where the system cannot do that."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def cpu_model():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


# Showing.


def print_latency(latency):
    references = [name for name in REFERENCES if name in next(iter(latency.values()))]
    print(f"{'tokens':>6}  {'side':<24}{'median ms':>10}{'p99 ms':>10}", *(f"{'x ' + name:>18}" for name in references))
    for length, by_name in latency.items():
        for name, row in by_name.items():
            ratios = (f"{row['times_as_fast_as'][reference]:>18.2f}" for reference in references)
            print(f"{length:>6}  {name:<24}{row['median_ms']:>10.3f}{row['p99_ms']:>10.3f}", *ratios)
        print()
    print("x: how many times as fast, by medians (above 1 is faster)\n")


def print_fidelity(fidelity, prompts):
    print(f"{prompts:,} held-out prompts against {next(iter(fidelity))}")
    print(f"{'side':<24}{'mean cosine':>13}{'min cosine':>13}{'same nearest':>14}{'same class':>14}{'same vote':>14}")
    for name, row in fidelity.items():
        print(f"{name:<24}{row['cosine_mean']:>13.5f}{row['cosine_min']:>13.5f}{row['same_nearest']:>14.1%}{row['same_class']:>14.1%}{row['same_vote']:>14.1%}")


def plot(latency, cpu, file):
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    colors = dict(zip(SIDES, pyplot.get_cmap("tab20").colors))
    lengths = list(latency)
    for name in latency[lengths[0]]:
        medians = [latency[length][name]["median_ms"] for length in lengths]
        style = "-" if name.startswith("waypost") else "--"
        axes.plot(lengths, medians, style, marker="o", markersize=4, color=colors[name], label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, lengths)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("tokens")
    axes.set_ylabel("median milliseconds, one text, one thread")
    axes.set_title(f"all-MiniLM-L6-v2 on {cpu}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default=",".join(SIDES), help="comma-separated; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--texts", type=int, default=8, help="texts of each length; default: %(default)s")
    parser.add_argument("--prompts", type=int, default=1000, help="for fidelity, 0 for none; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="for texts and prompts; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    args = parser.parse_args()
    names = args.sides.split(",")
    if unknown := set(names) - set(SIDES):
        parser.error(f"no such side: {', '.join(sorted(unknown))}. Sides: {', '.join(SIDES)}")
    if not (MODEL / "model.safetensors").exists():
        parser.error(f"{MODEL} has no weights: run `waypost models pull all-minilm-l6-v2`, or set WAYPOST_CACHE")

    core, cpu = pin_to_core(), cpu_model()
    tokenizer = open_tokenizer()
    learned = read_prompts(ROOT / "data/exemplars", args.seed)
    texts = {length: exact_texts(learned, tokenizer, length, args.texts) for length in LENGTHS}
    sides, skipped = open_sides(names)
    if not sides:
        parser.error("no side runs here")
    versions = {package: version(package) for package in PACKAGES}
    print(f"{cpu}, {'core ' + str(core) if core is not None else 'no core of its own'}, load {os.getloadavg()[0]:.1f}")
    print(", ".join(f"{package} {number}" for package, number in versions.items()))
    print(f"{args.rounds} rounds of {args.texts} texts a length; tokenising included\n")

    latency = measure_latency(sides, texts, args.rounds)
    print_latency(latency)
    # Longer prompts would show how each side cuts them, not how it computes.
    held_out = read_prompts(ROOT / "data/exemplars/heldout", args.seed)
    held_out = [prompt for prompt in held_out if len(tokenizer.encode(prompt[0])) < MAX_TOKENS][: args.prompts]
    fidelity = measure_fidelity(sides, held_out) if held_out else {}
    if fidelity:
        print_fidelity(fidelity, len(held_out))
    if args.plot:
        plot(latency, cpu, args.plot)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        machine = {"cpu": cpu, "core": core, "platform": platform.platform(), "packages": versions}
        settings = {"rounds": args.rounds, "texts": args.texts, "prompts": len(held_out), "seed": args.seed}
        report = machine | settings | {"latency": latency, "fidelity": fidelity, "skipped": skipped}
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
