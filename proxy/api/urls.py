from django.urls import path, re_path

from proxy.api import images, own_key, prices, sdk, unknown

app_name = "api"
urlpatterns = [
    path("credits/balance", prices.balance, name="credit-balance"),
    path("credits/estimate", prices.estimate, name="credit-estimate"),
    path("credits/pricing", prices.pricing, name="credit-pricing"),
    path("images", images.images, name="images"),
    path("images/<uuid:public_id>", images.image, name="image"),
    path("key", own_key.own_key, name="key"),
    path("quote", prices.quote, name="quote"),
    path("sdk/cancel", sdk.cancel, name="sdk-cancel"),
    path("sdk/check", sdk.check, name="sdk-check"),
    path("sdk/commit", sdk.commit, name="sdk-commit"),
    path("sdk/record", sdk.record, name="sdk-record"),
    path("sdk/reserve", sdk.reserve, name="sdk-reserve"),
    re_path("^.*$", unknown.unknown, name="unknown"),
]
