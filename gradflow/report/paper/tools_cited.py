"""The works behind optimizers, initializations, data, tools and readings."""

from .work import ICLR, ICML, NEURIPS, Work, paper, preprint, software

OF_TOOLS: dict[str, Work] = {
    "kingma2015": paper(
        "Kingma, Diederik P. and Ba, Jimmy", "Adam: A Method for Stochastic Optimization", 2015, ICLR, "1412.6980"
    ),
    "loshchilov2019": paper(
        "Loshchilov, Ilya and Hutter, Frank", "Decoupled Weight Decay Regularization", 2019, ICLR, "1711.05101"
    ),
    "chen2023": paper(
        "Chen, Xiangning and Liang, Chen and Huang, Da and Real, Esteban and Wang, Kaiyuan and Liu, Yao and "
        "Pham, Hieu and Dong, Xuanyi and Luong, Thang and Hsieh, Cho-Jui and Lu, Yifeng and Le, Quoc V.",
        "Symbolic Discovery of Optimization Algorithms",
        2023,
        NEURIPS,
        "2302.06675",
    ),
    "dey2025": paper(
        "Dey, Nolan and others",
        "Don't be lazy: CompleteP enables compute-efficient deep transformers",
        2025,
        NEURIPS,
        "2505.01618",
    ),
    "tieleman2012": Work(
        "misc",
        "Tieleman, Tijmen and Hinton, Geoffrey",
        "Lecture 6.5: RMSProp, Divide the Gradient by a Running Average of its Recent Magnitude",
        2012,
        "Coursera: Neural Networks for Machine Learning",
    ),
    "jordan2024": software(
        "Jordan, Keller and Jin, Yuchen and Boza, Vlado and You, Jiacheng and Cesista, Franz and Newhouse, "
        "Laker and Bernstein, Jeremy",
        "Muon: An Optimizer for Hidden Layers in Neural Networks",
        2024,
        "https://kellerjordan.github.io/posts/muon/",
    ),
    "pascanu2013": paper(
        "Pascanu, Razvan and Mikolov, Tomas and Bengio, Yoshua",
        "On the Difficulty of Training Recurrent Neural Networks",
        2013,
        ICML,
        "1211.5063",
    ),
    # initializations
    "lecun1998": Work(
        "misc",
        "LeCun, Yann and Bottou, L\\'eon and Orr, Genevieve B. and M\\\"uller, Klaus-Robert",
        "Efficient BackProp",
        1998,
        "Neural Networks: Tricks of the Trade, Springer",
    ),
    "glorot2010": paper(
        "Glorot, Xavier and Bengio, Yoshua",
        "Understanding the Difficulty of Training Deep Feedforward Neural Networks",
        2010,
        "International Conference on Artificial Intelligence and Statistics",
    ),
    "devlin2019": paper(
        "Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina",
        "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
        2019,
        "Conference of the North American Chapter of the Association for Computational Linguistics",
        "1810.04805",
    ),
    # readings
    "gu2025": paper(
        "Gu, Xiangming and others",
        "When Attention Sink Emerges in Language Models: An Empirical View",
        2025,
        ICLR,
        "2410.10781",
    ),
    "kimi2025": preprint("{Kimi Team}", "Kimi K2: Open Agentic Intelligence", 2025, "2507.20534"),
    "sun2024": preprint(
        "Sun, Mingjie and Chen, Xinlei and Kolter, J. Zico and Liu, Zhuang",
        "Massive Activations in Large Language Models",
        2024,
        "2402.17762",
    ),
    "gromov2024": preprint(
        "Gromov, Andrey and others", "The Unreasonable Ineffectiveness of the Deeper Layers", 2024, "2403.17887"
    ),
    "he2024": preprint(
        "He, Shwai and others", "What Matters in Transformers? Not All Attention is Needed", 2024, "2406.15786"
    ),
    # data and tools
    "python": software(
        "{Python Software Foundation}", "The Python Language Reference", 2026, "https://docs.python.org/3/reference/"
    ),
    "jax": software(
        "Bradbury, James and Frostig, Roy and Hawkins, Peter and Johnson, Matthew James and Leary, Chris and Maclaurin, Dougal "
        "and Necula, George and Paszke, Adam and VanderPlas, Jake and Wanderman-Milne, Skye and Zhang, Qiao",
        "JAX: Composable Transformations of Python+NumPy Programs",
        2018,
        "https://github.com/jax-ml/jax",
    ),
    "flax": software(
        "Heek, Jonathan and Levskaya, Anselm and Oliver, Avital and Ritter, Marvin and Rondepierre, Bertrand "
        "and Steiner, Andreas and {van Zee}, Marc",
        "Flax: A Neural Network Library and Ecosystem for JAX",
        2024,
        "https://github.com/google/flax",
    ),
    "optax": software(
        "{DeepMind} and Babuschkin, Igor and Baumli, Kate and Bell, Alison and Bhupatiraju, Surya and Bruce, "
        "Jake and Buchlovsky, Peter and Budden, David and Cai, Trevor and Clark, Aidan and Danihelka, Ivo and "
        "Dedieu, Antoine and Fantacci, Claudio and Godwin, Jonathan and Jones, Chris and Hemsley, Ross and "
        "Hennigan, Tom and Hessel, Matteo and Hou, Shaobo and Kapturowski, Steven and Keck, Thomas and "
        "Kemaev, Iurii and King, Michael and Kunesch, Markus and Martens, Lena and Merzic, Hamza and Mikulik, "
        "Vladimir and Norman, Tamara and Papamakarios, George and Quan, John and Ring, Roman and Ruiz, "
        "Francisco and Sanchez, Alvaro and Sartran, Laurent and Schneider, Rosalia and Sezener, Eren and "
        "Spencer, Stephen and Srinivasan, Srivatsan and Stanojevi\\'{c}, Milo\\v{s} and Stokowiec, Wojciech "
        "and Wang, Luyu and Zhou, Guangyao and Viola, Fabio",
        "The DeepMind JAX Ecosystem",
        2020,
        "https://github.com/google-deepmind",
    ),
    "xarray": Work(
        "article",
        "Hoyer, Stephan and Hamman, Joe",
        "xarray: N-D Labeled Arrays and Datasets in Python",
        2017,
        "Journal of Open Research Software",
    ),
    "matplotlib": Work(
        "article",
        "Hunter, John D.",
        "Matplotlib: A 2D Graphics Environment",
        2007,
        "Computing in Science \\& Engineering",
    ),
    "matfree": preprint(
        'Kr\\"amer, Nicholas and Moreno-Mu\\~noz, Pablo and Roy, Hrittik and Hauberg, S{\\o}ren',
        "Gradients of Functions of Large Matrices",
        2024,
        "2405.17277",
    ),
}
