"""The pictures: drawn or imported once, stored as memory maps, split by index.

    spec       what a data set is made of, and the name of its folder
    dataset    make, open and split a data set
    store      the layout on disk: two arrays and a manifest with checksums
    render     the captcha door: a picture as a function of (seed, index)
    parallel   many pictures, in several processes
    opencv     the OpenCV door
    letterbox  fit a picture of any shape into a square
    pictures   read, write and arrange picture files
    parts      the order of imported pictures, and the split that follows from it
    folder     the article's folder of picture files, in and out

Importing this package or `stn_bench.subjects.stn.data.dataset` imports neither captcha nor OpenCV nor Pillow.
"""
