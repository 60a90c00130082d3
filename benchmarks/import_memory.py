"""How much memory an import of published weights takes, above what its process has anyway.

Two folders with weights in 8 files, one of them of a model with four times the layers of the other,
are each imported by two children: into the directory of a run (`disk`), and onto a mesh of 4
virtual devices that share the parameters (`mesh`). A child imports a model of one layer first, so
that what it loads and compiles is there already.

`anonymous_MB` is the most that the import held beyond that (RssAnon, looked at every millisecond),
without pages of files, which the system takes back when it wants them, and on the mesh less the
model's own arrays, which are what is asked for; some of what the first import gave back is used
again, so it may be below zero. `ratio` is that over the model: it stays with the largest tensors,
and falls as models grow. `tensors` is that over the largest one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

DIM, HIDDEN, VOCABULARY, FILES = 768, 2048, 2048, 8
LAYERS = (4, 16)  # the larger one has 466 MB


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, DIM),
        "lm_head.weight": (VOCABULARY, DIM),
        "model.norm.weight": (DIM,),
    }
    for layer in range(layers):
        at = f"model.layers.{layer}"
        found |= {f"{at}.self_attn.{name}_proj.weight": (DIM, DIM) for name in "qkvo"}
        found |= {f"{at}.mlp.{name}_proj.weight": (HIDDEN, DIM) for name in ("gate", "up")}
        found[f"{at}.mlp.down_proj.weight"] = (DIM, HIDDEN)
        found |= {f"{at}.{n}_layernorm.weight": (DIM,) for n in ("input", "post_attention")}
    return found


def write(folder: Path, layers: int) -> int:
    """Writes a Llama in several files, and returns the bytes of its tensors."""
    import numpy as np
    from safetensors.numpy import save_file

    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": DIM,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
        "max_position_embeddings": 1024,
    }
    (folder / "config.json").write_text(json.dumps(config))
    rng, weight_map, total = np.random.default_rng(0), {}, 0
    names = list(shapes(layers))
    for number in range(FILES):
        file = f"model-{number}.safetensors"
        mine = names[number::FILES]  # a layer's tensors are in several files
        tensors = {n: rng.random(shapes(layers)[n], np.float32) for n in mine}
        save_file(tensors, folder / file)
        weight_map |= dict.fromkeys(mine, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return total


def held() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def most_held(call: Callable[[], object]) -> int:
    """Returns the most bytes of anonymous memory while something is called, above those before."""
    peak = before = held()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, held())
            time.sleep(0.001)

    watching = threading.Thread(target=watch)
    watching.start()
    call()
    done.set()
    watching.join()
    return peak - before


def child(way: str, warm: Path, folder: Path, target: Path) -> None:
    from axlearn_huggingface.families import LLAMA
    from axlearn_huggingface.folder import Folder
    from axlearn_huggingface.importing import import_folder
    from axlearn_huggingface.weights import import_onto_mesh

    def onto_mesh(source: Path) -> object:
        import jax

        from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh

        given = Folder(source)
        model = LLAMA.model(given.config).instantiate(name="model")
        with given.tensors() as tensors:
            placement = Placement(make_mesh({"fsdp": 4}), DEFAULT_RULES)
            arrays = import_onto_mesh(LLAMA.weights, model, tensors, placement)
            return jax.block_until_ready(arrays)

    if way == "disk":
        import_folder(warm, target / "warm")
        print(most_held(lambda: import_folder(folder, target / "run")))
    else:
        onto_mesh(warm)
        kept = []
        print(most_held(lambda: kept.append(onto_mesh(folder))))


def main() -> None:
    largest = 4 * max(VOCABULARY, HIDDEN) * DIM
    result: dict[str, object] = {"largest_tensor_MB": largest / 1e6, "files": FILES}
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder) / "warm"
        warm.mkdir()
        write(warm, 1)
        for layers in LAYERS:
            source = Path(folder) / f"{layers}"
            source.mkdir()
            size = write(source, layers)
            for way in ("disk", "mesh"):
                target = Path(folder) / f"{way}-{layers}"
                target.mkdir()
                words = [sys.executable, __file__, way, str(warm), str(source), str(target)]
                flags = (
                    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
                )
                done = subprocess.run(
                    words,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
                )
                peak = int(done.stdout.splitlines()[-1]) - (size if way == "mesh" else 0)
                result[f"{way}_{layers}_layers"] = {
                    "model_MB": size / 1e6,
                    "anonymous_MB": peak / 1e6,
                    "tensors": peak / largest,
                    "ratio": peak / size,
                }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    if sys.argv[1:]:
        child(sys.argv[1], *map(Path, sys.argv[2:]))
    else:
        main()
