from django.urls import path, re_path

from proxy.api import admin_credits, credits, images, own_key, prices, receipts, sdk, unknown, usage

app_name = "api"
urlpatterns = [
    path("admin/credits/adjust", admin_credits.adjust, name="admin-credits-adjust"),
    path("admin/credits/deposit", admin_credits.deposit, name="admin-credits-deposit"),
    path("admin/credits/deduct", admin_credits.deduct, name="admin-credits-deduct"),
    path("admin/credits/stats", admin_credits.stats, name="admin-credits-stats"),
    path("credits/packs", credits.packs, name="credit-packs"),
    path("credits/purchase", credits.purchase, name="credit-purchase"),
    path("credits/transactions", credits.transactions, name="credit-transactions"),
    path("credits/transfer", credits.transfer, name="credit-transfer"),
    path("credits/balance", prices.balance, name="credit-balance"),
    path("credits/estimate", prices.estimate, name="credit-estimate"),
    path("credits/pricing", prices.pricing, name="credit-pricing"),
    path("images", images.images, name="images"),
    path("images/<uuid:public_id>", images.image, name="image"),
    path("key", own_key.own_key, name="key"),
    path("receipts/<str:request_id>", receipts.receipt, name="receipt"),
    path("quote", prices.quote, name="quote"),
    path("sdk/cancel", sdk.cancel, name="sdk-cancel"),
    path("sdk/check", sdk.check, name="sdk-check"),
    path("sdk/commit", sdk.commit, name="sdk-commit"),
    path("sdk/record", sdk.record, name="sdk-record"),
    path("sdk/reserve", sdk.reserve, name="sdk-reserve"),
    path("usage/daily", usage.daily, name="usage-daily"),
    path("usage/logs", usage.logs, name="usage-logs"),
    path("usage/stats", usage.stats, name="usage-stats"),
    re_path("^.*$", unknown.unknown, name="unknown"),
]
