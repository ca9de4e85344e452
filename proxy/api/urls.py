from django.urls import path, re_path

from proxy.api import own_key, prices, unknown

app_name = "api"
urlpatterns = [
    path("credits/balance", prices.balance, name="credit-balance"),
    path("credits/estimate", prices.estimate, name="credit-estimate"),
    path("credits/pricing", prices.pricing, name="credit-pricing"),
    path("key", own_key.own_key, name="key"),
    path("quote", prices.quote, name="quote"),
    re_path("^.*$", unknown.unknown, name="unknown"),
]
