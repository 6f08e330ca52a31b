"""The works behind the named wirings."""

from .recent_cited import OF_RECENT
from .work import ICLR, ICML, NEURIPS, Work, paper, preprint, software

OF_WIRINGS: dict[str, Work] = {
    "xiong2020": paper(
        "Xiong, Ruibin and Yang, Yunchang and He, Di and Zheng, Kai and Zheng, Shuxin and Xing, Chen and Zhang, Huishuai and "
        "Lan, Yanyan and Wang, Liwei and Liu, Tie-Yan",
        "On Layer Normalization in the Transformer Architecture",
        2020,
        ICML,
        "2002.04745",
    ),
    "radford2019": Work(
        "misc",
        "Radford, Alec and Wu, Jeffrey and Child, Rewon and Luan, David and Amodei, Dario and Sutskever, Ilya",
        "Language Models are Unsupervised Multitask Learners",
        2019,
        "OpenAI",
    ),
    "vaswani2017": paper(
        "Vaswani, Ashish and Shazeer, Noam and Parmar, Niki and Uszkoreit, Jakob and Jones, Llion and Gomez, Aidan N. and "
        "Kaiser, Lukasz and Polosukhin, Illia",
        "Attention Is All You Need",
        2017,
        NEURIPS,
        "1706.03762",
    ),
    "liu2022swin": paper(
        "Liu, Ze and Hu, Han and Lin, Yutong and Yao, Zhuliang and Xie, Zhenda and Wei, Yixuan and Ning, Jia "
        "and Cao, Yue and Zhang, Zheng and Dong, Li and Wei, Furu and Guo, Baining",
        "Swin Transformer V2: Scaling Up Capacity and Resolution",
        2022,
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        "2111.09883",
    ),
    "olmo2025": preprint("{Team OLMo} and others", "2 OLMo 2 Furious", 2025, "2501.00656"),
    "ding2021": paper(
        "Ding, Ming and Yang, Zhuoyi and Hong, Wenyi and Zheng, Wendi and Zhou, Chang and Yin, Da and Lin, "
        "Junyang and Zou, Xu and Shao, Zhou and Yang, Hongxia and Tang, Jie",
        "CogView: Mastering Text-to-Image Generation via Transformers",
        2021,
        NEURIPS,
        "2105.13290",
    ),
    "kim2025": paper(
        "Kim, Jeonghoon and Lee, Byeongchan and Park, Cheonbok and Oh, Yeontaek and Kim, Beomjun and Yoo, "
        "Taehwan and Shin, Seongjin and Han, Dongyoon and Shin, Jinwoo and Yoo, Kang Min",
        "Peri-LN: Revisiting Normalization Layer in the Transformer Architecture",
        2025,
        ICML,
        "2502.02732",
    ),
    "gemma2024": preprint(
        "{Gemma Team}", "Gemma 2: Improving Open Language Models at a Practical Size", 2024, "2408.00118"
    ),
    "he2016": paper(
        "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
        "Deep Residual Learning for Image Recognition",
        2016,
        "IEEE Conference on Computer Vision and Pattern Recognition",
        "1512.03385",
    ),
    "wang2022foundation": preprint("Wang, Hongyu and others", "Foundation Transformers", 2022, "2210.06423"),
    "wang2022deepnet": preprint(
        "Wang, Hongyu and Ma, Shuming and Dong, Li and Huang, Shaohan and Zhang, Dongdong and Wei, Furu",
        "DeepNet: Scaling Transformers to 1,000 Layers",
        2022,
        "2203.00555",
    ),
    "liu2020": paper(
        "Liu, Liyuan and Liu, Xiaodong and Gao, Jianfeng and Chen, Weizhu and Han, Jiawei",
        "Understanding the Difficulty of Training Transformers",
        2020,
        "Conference on Empirical Methods in Natural Language Processing",
        "2004.08249",
    ),
    "bachlechner2020": preprint(
        "Bachlechner, Thomas and Majumder, Bodhisattwa Prasad and Mao, Huanru Henry and Cottrell, Garrison W. and "
        "McAuley, Julian",
        "ReZero is All You Need: Fast Convergence at Large Depth",
        2020,
        "2003.04887",
    ),
    "de2020": paper(
        "De, Soham and Smith, Samuel L.",
        "Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks",
        2020,
        NEURIPS,
        "2002.10444",
    ),
    "touvron2021": paper(
        "Touvron, Hugo and Cord, Matthieu and Sablayrolles, Alexandre and Synnaeve, Gabriel and J\\'egou, Herv\\'e",
        "Going Deeper with Image Transformers",
        2021,
        "IEEE/CVF International Conference on Computer Vision",
        "2103.17239",
    ),
    "noci2022": paper(
        "Noci, Lorenzo and Anagnostidis, Sotiris and Biggio, Luca and Orvieto, Antonio and Singh, Sidak Pal and "
        "Lucchi, Aurelien",
        "Signal Propagation in Transformers: Theoretical Perspectives and the Role of Rank Collapse",
        2022,
        NEURIPS,
        "2206.03126",
    ),
    "yang2023": preprint(
        "Yang, Greg and Yu, Dingli and Zhu, Chen and Hayou, Soufiane",
        "Tensor Programs VI: Feature Learning in Infinite-Depth Neural Networks",
        2023,
        "2310.02244",
    ),
    "sun2025": preprint(
        "Sun, Wenfang and Song, Xinyuan and Li, Pengxiang and Yin, Lu and Zheng, Yefeng and Liu, Shiwei",
        "The Curse of Depth in Large Language Models",
        2025,
        "2502.05795",
    ),
    "kedia2024": paper(
        "Kedia, Akhil and Zaidi, Mohd Abbas and Khyalia, Sushil and Jung, JungHo and Goka, Harshith and Lee, Haejun",
        "Transformers Get Stable: An End-to-End Signal Propagation Theory for Language Models",
        2024,
        ICML,
        "2403.09635",
    ),
    "zhang2019": paper(
        "Zhang, Hongyi and Dauphin, Yann N. and Ma, Tengyu",
        "Fixup Initialization: Residual Learning Without Normalization",
        2019,
        ICLR,
        "1901.09321",
    ),
    "huang2020": paper(
        "Huang, Xiao Shi and P\\'erez, Felipe and Ba, Jimmy and Volkovs, Maksims",
        "Improving Transformer Optimization Through Better Initialization",
        2020,
        ICML,
    ),
    "loshchilov2024": preprint(
        "Loshchilov, Ilya and Hsieh, Cheng-Ping and Sun, Simeng and Ginsburg, Boris",
        "nGPT: Normalized Transformer with Representation Learning on the Hypersphere",
        2024,
        "2410.01131",
    ),
    "xie2023": preprint(
        "Xie, Shufang and Zhang, Huishuai and Guo, Junliang and Tan, Xu and Bian, Jiang and Awadalla, Hany "
        "Hassan and Menezes, Arul and Qin, Tao and Yan, Rui",
        "ResiDual: Transformer with Dual Residual Connections",
        2023,
        "2304.14802",
    ),
    "li2026": preprint(
        "Li, Tianyu and Han, Dongchen and Cao, Zixuan and Huang, Haofeng and Zhou, Mengyu and Chen, Ming and Zhao, Erchao and "
        "Jiang, Xiaoxi and Jiang, Guanjun and Huang, Gao",
        "SiameseNorm: Breaking the Barrier to Reconciling Pre/Post-Norm",
        2026,
        "2602.08064",
    ),
    "zhu2024": preprint(
        "Zhu, Defa and Huang, Hongzhi and Huang, Zihao and Zeng, Yutao and Mao, Yunyao and Wu, Banggu and "
        "Min, Qiyang and Zhou, Xun",
        "Hyper-Connections",
        2024,
        "2409.19606",
    ),
    "xie2025": preprint(
        "Xie, Zhenda and Wei, Yixuan and Cao, Huanqi and Zhao, Chenggang and Deng, Chengqi and Li, Jiashi and "
        "Dai, Damai and Gao, Huazuo and Chang, Jiang and Yu, Kuai and Zhao, Liang and Zhou, Shangyan and Xu, "
        "Zhean and Zhang, Zhengyan and Zeng, Wangding and Hu, Shengding and Wang, Yuqing and Yuan, Jingyang "
        "and Wang, Lean and Liang, Wenfeng",
        "mHC: Manifold-Constrained Hyper-Connections",
        2025,
        "2512.24880",
    ),
    "chen2026": preprint(
        "Chen, Chen and Wei, Lai", "Post-LayerNorm Is Back: Stable, ExpressivE, and Deep", 2026, "2601.19895"
    ),
    "li2025": preprint(
        "Li, Pengxiang and Yin, Lu and Liu, Shiwei",
        "Mix-LN: Unleashing the Power of Deeper Layers by Combining Pre-LN and Post-LN",
        2025,
        "2412.13795",
    ),
    "shleifer2021": preprint(
        "Shleifer, Sam and Weston, Jason and Ott, Myle",
        "NormFormer: Improved Transformer Pretraining with Extra Normalization",
        2021,
        "2110.09456",
    ),
    "zhuo2025": preprint(
        "Zhuo, Zhijian and Zeng, Yutao and Wang, Ya and Zhang, Sijun and Yang, Jian and Li, Xiaoqing and "
        "Zhou, Xun and Ma, Jinwen",
        "HybridNorm: Towards Stable and Efficient Transformer Training via Hybrid Normalization",
        2025,
        "2503.04598",
    ),
    "wang2021": software(
        "Wang, Ben and Komatsuzaki, Aran",
        "GPT-J-6B: A 6 Billion Parameter Autoregressive Language Model",
        2021,
        "https://github.com/kingoflolz/mesh-transformer-jax",
    ),
    "black2022": preprint(
        "Black, Sid and Biderman, Stella and Hallahan, Eric and Anthony, Quentin and Gao, Leo and Golding, "
        "Laurence and He, Horace and Leahy, Connor and McDonell, Kyle and Phang, Jason and Pieler, Michael "
        "and Prashanth, USVSN Sai and Purohit, Shivanshu and Reynolds, Laria and Tow, Jonathan and Wang, Ben "
        "and Weinbach, Samuel",
        "GPT-NeoX-20B: An Open-Source Autoregressive Language Model",
        2022,
        "2204.06745",
    ),
    "chowdhery2022": preprint(
        "Chowdhery, Aakanksha and others", "PaLM: Scaling Language Modeling with Pathways", 2022, "2204.02311"
    ),
    "takase2023": paper(
        "Takase, Sho and Kiyono, Shun and Kobayashi, Sosuke and Suzuki, Jun",
        "B2T Connection: Serving Stability and Performance in Deep Transformers",
        2023,
        "Findings of the Association for Computational Linguistics",
        "2206.00330",
    ),
    **OF_RECENT,
}
