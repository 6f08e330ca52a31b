"""What is written into files, and what reading it should lead to."""

from .cases import EITHER, REFUSED, RIGHT, words

TEXTS = {
    "put_file(b'')": REFUSED,
    "put_file(b'x' * 17)": REFUSED,
    "put_file(b'x' * 18)": RIGHT,
    "put_file(b'x' * 19)": RIGHT,
    "put_file(bytes(range(256)) * 2)": RIGHT,
    "put_file(b'\\0' * 100)": RIGHT,
    "put_file(b'\\xff\\xfe' + 'text'.encode('utf-16-le') * 20)": RIGHT,
    "put_file('größer'.encode() * 10)": RIGHT,
    "put_file(b'x\\r\\n' * 30)": RIGHT,
    "str(put_file(b'x' * 50))": RIGHT,
    "put_file(b'x' * 50).resolve()": RIGHT,
    "put_file(b'x' * 50, 'ü 100%.txt')": RIGHT,
    "put_file(b'x' * 50, 'a\\nb')": RIGHT,
    "linked()": RIGHT,
    "fifo()": REFUSED,
    "loop()": REFUSED,
    "'/dev/null'": REFUSED,
    "'/dev/zero'": REFUSED,
    "'/dev/random'": REFUSED,
    "'/dev/full'": REFUSED,
    "'/dev/tty'": REFUSED,
    "'/proc/self/mem'": REFUSED,
    "'/proc/self'": REFUSED,
    "'missing'": REFUSED,
    "'.'": REFUSED,
    "'/'": REFUSED,
    "'a' * 5000": REFUSED,
    "'a/' * 3000": REFUSED,
    "'file.txt/'": REFUSED,
    "socket_file()": REFUSED,
    "Path('/dev/fd/0')": REFUSED,
}
NUMBERS = {
    "b'1 2 3'": (RIGHT, "[1, 2, 3]"),
    "b'1,2,3'": (RIGHT, "[1, 2, 3]"),
    "b'1, 2,\\n3\\n'": (RIGHT, "[1, 2, 3]"),
    "b'  7  '": (RIGHT, "[7]"),
    "b'1\\t2\\r\\n3'": (RIGHT, "[1, 2, 3]"),
    "b'0001'": (EITHER, "[1]"),
    "b'9223372036854775807'": (EITHER, "[2**63 - 1]"),
    "b''": (EITHER, "[]"),
    "b'-1 2'": (EITHER, "[-1, 2]"),
    "b'+1 2'": (EITHER, "[1, 2]"),
    "b'1_000'": (EITHER, "[1000]"),
    "'１ ２'.encode()": (EITHER, "[1, 2]"),
    "b'\\xef\\xbb\\xbf1 2'": (EITHER, "[1, 2]"),
    "b'1,,2'": (EITHER, "[1, 2]"),
    "b'9223372036854775808'": (REFUSED, "None"),
    "b'-9223372036854775809'": (REFUSED, "None"),
    "b'9' * 5000": (REFUSED, "None"),
    "b'1.0 2'": (REFUSED, "None"),
    "b'1e3'": (REFUSED, "None"),
    "b'0x10'": (REFUSED, "None"),
    "b'nan'": (REFUSED, "None"),
    "b'one two'": (REFUSED, "None"),
    "b'1;2'": (REFUSED, "None"),
    "b'[1, 2]'": (REFUSED, "None"),
    "b'1 2 \\0 3'": (REFUSED, "None"),
    "b'\\xff\\xfe1\\0 \\0'": (REFUSED, "None"),
    "b'\\x80'": (REFUSED, "None"),
    "b'True'": (REFUSED, "None"),
}
ARRAYS = {
    "array_file(np.arange(5))": (RIGHT, "range(5)"),
    "array_file(np.arange(5, dtype=np.int8))": (RIGHT, "range(5)"),
    "array_file(np.arange(5, dtype=np.uint16))": (RIGHT, "range(5)"),
    "array_file(np.arange(5, dtype='>i4'))": (RIGHT, "range(5)"),
    "array_file(np.arange(5, dtype=np.uint64))": (RIGHT, "range(5)"),
    "array_file(np.arange(5, dtype=np.uint64) + np.uint64(2**63))": (REFUSED, "None"),
    "array_file(np.arange(5.0))": (REFUSED, "None"),
    "array_file(np.ones(5, bool))": (REFUSED, "None"),
    "array_file(np.ones((5, 2), int))": (REFUSED, "None"),
    "array_file(np.array(5))": (REFUSED, "None"),
    "array_file(np.array([None, 1]))": (REFUSED, "None"),
    "array_file(np.array(['1', '2']))": (REFUSED, "None"),
    "array_file(np.ones(5, complex))": (REFUSED, "None"),
    "array_file(np.array(['2020-01-01'], 'datetime64[D]'))": (REFUSED, "None"),
    "array_file(np.zeros(3, [('a', int)]))": (REFUSED, "None"),
    "put_file(b'', 'a.npy')": (REFUSED, "None"),
    "put_file(b'\\x93NUMPY', 'a.npy')": (REFUSED, "None"),
    "put_file(b'1 2 3', 'a.npy')": (REFUSED, "None"),
    "put_file(b'PK\\x03\\x04' + b'\\0' * 100, 'a.npy')": (REFUSED, "None"),
    "claiming('(1000000000000,)')": (REFUSED, "None"),
    "claiming('(9223372036854775807,)')": (REFUSED, "None"),
    "claiming('(-1,)')": (REFUSED, "None"),
    "claiming('(100,)')": (REFUSED, "None"),
    "claiming('(2, 10**10)')": (REFUSED, "None"),
    "claiming('(8,)', '|O')": (REFUSED, "None"),
    "claiming('(8,)', 'nonsense')": (REFUSED, "None"),
    "claiming('x')": (REFUSED, "None"),
}


VALUES = words(r"""
    None | True | 'x' | '' | -1 | 0 | 1.5 | 10**30 | [] | {} | float('nan') | float('inf') | [1] | {'a': 1}
    'a' * 10000 | 2**63 | ...
""")
SIZES = words(r"""
    vocab_size | hidden_size | num_hidden_layers | num_attention_heads | num_key_value_heads | intermediate_size
    max_position_embeddings
""")
OTHERS = words(r"""
    rms_norm_eps | rope_theta | hidden_act | tie_word_embeddings | attention_bias | head_dim | rope_scaling
    sliding_window | layer_types | attention_dropout | torch_dtype | quantization_config | architectures
    unknown_key | query_pre_attn_scalar | attn_logit_softcapping | bos_token_id | use_cache | initializer_range
""")
CONFIGS = {
    "model_type='llama', hidden_size=16": REFUSED,
    "model_type='lama'": REFUSED,
    "model_type='mistral'": EITHER,
    "model_type='bert'": REFUSED,
    "model_type='gpt2'": REFUSED,
    "model_type='qwen3'": REFUSED,
    "model_type='gemma2'": REFUSED,
    "model_type='olmo2'": REFUSED,
    "model_type='t5'": REFUSED,
    "num_hidden_layers=3": REFUSED,
    "num_hidden_layers=1": REFUSED,
    "num_attention_heads=3": REFUSED,
    "num_key_value_heads=2": REFUSED,
    "vocab_size=12": REFUSED,
    "hidden_act='relu6'": REFUSED,
    "rope_scaling={'type': 'nothing', 'factor': 2.0}": REFUSED,
    "quantization_config={'bits': 4}": REFUSED,
    "rms_norm_eps=-1.0": REFUSED,
    "rope_theta=-1.0": REFUSED,
    "rope_theta=0": REFUSED,
    "num_hidden_layers=10**9": REFUSED,
    "vocab_size=10**12": REFUSED,
    "hidden_size=10**9": REFUSED,
    "torch_dtype='float16'": RIGHT,
    "transformers_version='5.0'": RIGHT,
}
RAW = words(r"""
    b'' | b'{}' | b'[]' | b'null' | b'3' | b'"x"' | b'{' | b'\xff\xfe' | b'\0' * 100 | b'[' * 100_000
    b'{"a":' * 50_000 | b'NaN' | b'{"model_type": "llama"}' | b'{"model_type": "llama", "model_type": "bert"}'
    b'9' * 100_000
""")
WEIGHTS = {
    "lambda raw: b''": REFUSED,
    "lambda raw: raw[:8]": REFUSED,
    "lambda raw: raw[:-1]": REFUSED,
    "lambda raw: raw[:len(raw) // 2]": REFUSED,
    "lambda raw: raw + b'x'": REFUSED,
    "lambda raw: b'\\xff' * 8 + raw[8:]": REFUSED,
    "lambda raw: (2**40).to_bytes(8, 'little') + raw[8:]": REFUSED,
    "lambda raw: (0).to_bytes(8, 'little') + raw[8:]": REFUSED,
    "lambda raw: (2).to_bytes(8, 'little') + b'{}'": REFUSED,
    "lambda raw: (100_000).to_bytes(8, 'little') + b'[' * 100_000": REFUSED,
    "lambda raw: b'PK\\x03\\x04' + raw": REFUSED,
    "lambda raw: pickle.dumps(object)": REFUSED,
    "header(dtype='F33')": REFUSED,
    "header(dtype='I32')": REFUSED,
    "header(dtype='BOOL')": REFUSED,
    "header(dtype=None)": REFUSED,
    "header(shape=[1, 1])": REFUSED,
    "header(shape=[-1])": REFUSED,
    "header(shape=[2**40, 2**40])": REFUSED,
    "header(shape=[])": REFUSED,
    "header(shape='x')": REFUSED,
    "header(data_offsets=[0, 0])": REFUSED,
    "header(data_offsets=[10, 0])": REFUSED,
    "header(data_offsets=[0, 2**60])": REFUSED,
    "header(data_offsets=[1, 2, 3])": REFUSED,
    "header(more=3)": EITHER,
}
TENSORS = {
    "model__norm__weight=...": REFUSED,
    "model__norm__weight=np.ones(9, np.float32)": REFUSED,
    "model__norm__weight=np.ones((8, 1), np.float32)": REFUSED,
    "model__norm__weight=np.ones(8, np.int32)": REFUSED,
    "model__norm__weight=np.ones(8, bool)": REFUSED,
    "model__norm__weight=np.ones((), np.float32)": REFUSED,
    "model__norm__weight=np.ones(0, np.float32)": REFUSED,
    "model__norm__weight=np.ones(8, np.float16)": RIGHT,
    "model__norm__weight=np.ones(8, np.float64)": RIGHT,
    "model__norm__weight=np.full(8, np.nan, np.float32)": EITHER,
    "model__norm__weight=np.full(8, np.inf, np.float32)": EITHER,
    "model__norm__bias=np.ones(8, np.float32)": REFUSED,
    "model__more=np.ones(8, np.float32)": REFUSED,
    "model__layers__2__input_layernorm__weight=np.ones(8, np.float32)": REFUSED,
    "model__layers__0__self_attn__q_proj__weight=...": REFUSED,
    "model__layers__0__self_attn__q_proj__weight=np.ones((8, 9), np.float32)": REFUSED,
    "model__layers__0__self_attn__q_proj__bias=np.ones(8, np.float32)": REFUSED,
    "lm_head__weight=...": EITHER,
    "model__embed_tokens__weight=np.ones((12, 8), np.float32)": REFUSED,
    "model__embed_tokens__weight=np.ones((8, 11), np.float32)": REFUSED,
}
TOKENIZERS = words(r"""
    ('model',), value=None | ('model',), value={} | ('model', 'type'), value='Nothing'
    ('model', 'vocab'), value=[] | ('model', 'vocab'), value={} | ('model', 'vocab', 'a'), value=-1
    ('model', 'vocab', 'a'), value=2**40 | ('model', 'vocab', 'a'), value=2**31
    ('model', 'unk_token'), value='nothing' | ('version',), value='9' | ('added_tokens',), value=3
    ('added_tokens',), value=[{'id': 2**33, 'content': 'x'}]
    ('normalizer',), value={'type': 'Replace', 'pattern': {'Regex': '('}, 'content': ''}
    ('normalizer',), value={'type': 'Replace', 'pattern': {'Regex': '(a*)*b'}, 'content': ''}
    ('normalizer',), value={'type': 'Precompiled', 'precompiled_charsmap': 'AAAA'}
    ('normalizer',), value={'type': 'Precompiled', 'precompiled_charsmap': ''}
    ('pre_tokenizer',), value={'type': 'Nothing'}
    ('post_processor',), value={'type': 'TemplateProcessing', 'single': [], 'pair': [], 'special_tokens': {}}
    ('truncation',), value={'max_length': 1, 'stride': 5, 'strategy': 'LongestFirst', 'direction': 'Right'}
    ('padding',), value={'strategy': {'Fixed': 2**40}} | ('decoder',), value=3
""")


RESULTS = {
    "external_data": REFUSED,
    "external_link": REFUSED,
    "huge((10**13,))": REFUSED,
    "huge((10**6, 10**6))": REFUSED,
    "huge((10**9, 10**9))": REFUSED,
    "hard_link_loop": EITHER,
    "soft_link": EITHER,
    "without('loss')": EITHER,
    "without('depth')": EITHER,
    "without('stream_gradient')": EITHER,
    "attribute('provenance', '{')": EITHER,
    "attribute('provenance', 3)": EITHER,
    "attribute('more', np.ones(3))": EITHER,
    "attribute('key', b'\\xff\\xfe')": EITHER,
    "lambda file: file.__delitem__('pre')": EITHER,
    "lambda file: file.create_dataset('text', data='x')": EITHER,
    "lambda file: file.create_dataset('objects', (1,), h5py.ref_dtype)": EITHER,
    "lambda file: file.create_dataset('own', data=np.zeros(2, [('a', int)]))": EITHER,
}
