"""imgserve: an image-processing service over HTTP and ZeroMQ."""

__version__ = "1.0.0.dev0"
