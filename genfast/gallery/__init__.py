"""The gallery of `genfast demo --all`: each of the twenty systems with a picture, its check, its figure.

An exhibit is made on real images by the package itself, within a minute or so of two CPU cores.
"""

from genfast.gallery.catalogue import EXHIBITS as EXHIBITS
from genfast.gallery.exhibit import Exhibit as Exhibit
from genfast.gallery.exhibit import Finding as Finding
from genfast.gallery.hang import make_gallery as make_gallery
