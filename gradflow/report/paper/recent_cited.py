"""The works behind the wirings of recent models, and behind those that gate."""

from .work import ICML, NEURIPS, Work, paper, preprint, software

OF_RECENT: dict[str, Work] = {
    "geiping2025": preprint(
        "Geiping, Jonas and others",
        "Scaling up Test-Time Compute with Latent Reasoning: A Recurrent Depth Approach",
        2025,
        "2502.05171",
    ),
    "chen2025gpas": preprint(
        "Chen, Tianhao and others",
        "GPAS: Accelerating Convergence of LLM Pretraining via Gradient-Preserving Activation Scaling",
        2025,
        "2506.22049",
    ),
    "chen2026prores": preprint(
        "Chen, Tianhao and Xu, Xin and Yin, Lu and Chen, Hao and Wang, Yang and Diao, Shizhe and Yang, Can",
        "Progressive Residual Warmup for Language Model Pretraining",
        2026,
        "2603.05369",
    ),
    "peebles2023": paper(
        "Peebles, William and Xie, Saining",
        "Scalable Diffusion Models with Transformers",
        2023,
        "IEEE/CVF International Conference on Computer Vision",
        "2212.09748",
    ),
    "srivastava2015": preprint(
        "Srivastava, Rupesh Kumar and Greff, Klaus and Schmidhuber, Juergen", "Highway Networks", 2015, "1505.00387"
    ),
    "menghani2025": paper(
        "Menghani, Gaurav and Kumar, Ravi and Kumar, Sanjiv",
        "LAuReL: Learned Augmented Residual Layer",
        2025,
        ICML,
        "2411.07501",
    ),
    "zheng2026": preprint(
        "Zheng, Chuanyang",
        "GeoNorm: Unify Pre-Norm and Post-Norm with Geodesic Optimization",
        2026,
        "2601.22095",
    ),
    "wang2026": preprint(
        "Wang, Chao and others",
        "SpanNorm: Reconciling Training Stability and Performance in Deep Transformers",
        2026,
        "2601.22580",
    ),
    "karpathy2025": software("Karpathy, Andrej", "nanochat", 2025, "https://github.com/karpathy/nanochat"),
    "jordan2024speedrun": software(
        "Jordan, Keller and others",
        "modded-nanogpt: Speedrunning the NanoGPT Baseline",
        2024,
        "https://github.com/KellerJordan/modded-nanogpt",
    ),
    "pagliardini2024": paper(
        "Pagliardini, Matteo and Mohtashami, Amirkeivan and Fleuret, Francois and Jaggi, Martin",
        "DenseFormer: Enhancing Information Flow in Transformers via Depth Weighted Averaging",
        2024,
        NEURIPS,
        "2402.02622",
    ),
    "xiao2025": paper(
        "Xiao, Da and others",
        "MUDDFormer: Breaking Residual Bottlenecks in Transformers via Multiway Dynamic Dense Connections",
        2025,
        ICML,
        "2502.12170",
    ),
    "heddes2025": paper(
        "Heddes, Mike and Javanmard, Adel and Axiotis, Kyriakos and Fu, Gang and Bateni, MohammadHossein and Mirrokni, Vahab",
        "DeepCrossAttention: Supercharging Transformer Residual Connections",
        2025,
        ICML,
        "2502.06785",
    ),
    "yang2026": preprint(
        "Yang, Yongyi and Gao, Jianyang", "mHC-lite: You Don't Need 20 Sinkhorn-Knopp Iterations", 2026, "2601.05732"
    ),
    "zhou2024": preprint(
        "Zhou, Zhanchao and Wu, Tianyi and Jiang, Zhiyun and Lan, Zhenzhong",
        "Value Residual Learning",
        2024,
        "2410.17897",
    ),
    "zhou2026": preprint(
        "Zhou, Wuyang and Gu, Yuxuan and Iacovides, Giorgos and Mandic, Danilo",
        "KromHC: Manifold-Constrained Hyper-Connections with Kronecker-Product Residual Matrices",
        2026,
        "2601.21579",
    ),
    "sengupta2026": preprint(
        "Sengupta, Biswa and Wang, Jinhua and Brunswic, Leo",
        "JPmHC: Dynamical Isometry via Orthogonal Hyper-Connections",
        2026,
        "2602.18308",
    ),
    "deepseek2026": preprint("{DeepSeek-AI}", "DeepSeek-V4", 2026, "2606.19348"),
    "qwen2026": software(
        "{Qwen Team} and {The Hugging Face Team}",
        "qwen4\\_exp in Transformers",
        2026,
        "https://github.com/huggingface/transformers",
    ),
    "zhu2025frac": preprint(
        "Zhu, Defa and others", "Frac-Connections: Fractional Extension of Hyper-Connections", 2025, "2503.14125"
    ),
    "kimi2026": preprint("{Kimi Team}", "Attention Residuals", 2026, "2603.15031"),
}
