"""What DeepStream's Gst-nvinfer needs to run a model: a graph that it can feed, and its words."""
