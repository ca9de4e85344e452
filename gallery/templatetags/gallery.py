"""Addresses of images for templates."""

from django import template

from gallery import links
from gallery.models import Image

register = template.Library()


@register.filter
def image_url(image: Image) -> str:
    """The image's bytes."""
    return links.of(image)


@register.filter
def thumbnail_url(image: Image) -> str:
    """Its thumbnail; the image itself while there is none."""
    return links.thumbnail_of(image)
