"""Route the pages of sellers and staff, the API and the probes."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from feedback.experiments import views as experiment_views
from feedback.monitoring.dashboard import views as dashboard_views
from feedback.review import side_views as review_side_views
from feedback.review import views as review_views
from portal.accounts import appeals
from portal.accounts import views as account_views
from portal.operations import probes
from portal.privacy import views as privacy_views
from portal.products import trash_views
from portal.products import views as product_views

admin.autodiscover()
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns = [
    path("", product_views.home, name="home"),
    path("products/", product_views.products, name="products"),
    path("products/new/", product_views.product_new, name="product_new"),
    path("products/delete/", trash_views.products_delete, name="products_delete"),
    path("products/restore/", trash_views.products_restore, name="products_restore"),
    path("products/trash/", trash_views.trash, name="trash"),
    path("products/trash/delete/", trash_views.trash_delete, name="trash_delete"),
    path("products/sku/", product_views.sku_check, name="sku_check"),
    path("products/<uuid:pk>/", product_views.product, name="product"),
    path("products/<uuid:pk>/result/", product_views.product_result, name="product_result"),
    path("products/<uuid:pk>/answer/", product_views.product_answer, name="product_answer"),
    path("products/<uuid:pk>/edit/", product_views.product_edit, name="product_edit"),
    path("products/<uuid:pk>/retry/", product_views.product_retry, name="product_retry"),
    path("products/<uuid:pk>/delete/", trash_views.product_delete, name="product_delete"),
    path("categories/search/", product_views.category_search, name="category_search"),
    path("photos/trash/<uuid:pk>/", trash_views.trashed_photo, name="trashed_photo"),
    path("photos/<uuid:pk>/<str:size>/", product_views.product_photo, name="product_photo"),
    path("photos/each/<uuid:pk>/<str:size>/", product_views.photo, name="photo"),
    path("account/", account_views.account, name="account"),
    path("account/answers/", appeals.appeal, name="appeal"),
    path("account/tokens/", account_views.token_create, name="token_create"),
    path("account/tokens/<str:pk>/revoke/", account_views.token_revoke, name="token_revoke"),
    path("account/erase/", privacy_views.erase, name="account_erase"),
    path("account/erase/cancel/", privacy_views.erase_cancel, name="account_erase_cancel"),
    path("account/export/", privacy_views.export_ask, name="export_ask"),
    path("account/export/state/", privacy_views.export_state, name="export_state"),
    path("account/export/<uuid:pk>/", privacy_views.export_fetch, name="export_fetch"),
    path("accounts/", include("allauth.urls")),
    path("api/", include("portal.api.urls")),
    path("admin/experiments/", admin.site.admin_view(experiment_views.experiment_page), name="experiments"),
    path(
        "admin/experiments/<slug:modality>/", admin.site.admin_view(experiment_views.experiment_page), name="experiment"
    ),
    path("admin/review/", admin.site.admin_view(review_views.review_queue), name="review"),
    path("admin/review/export/", admin.site.admin_view(review_side_views.export_page), name="review_export"),
    path("admin/review/categories/", admin.site.admin_view(review_side_views.proposals_page), name="review_proposals"),
    path("admin/health/", admin.site.admin_view(dashboard_views.health), name="model_health"),
    # Django's own page has no rate limit, sends no notice, and does not offer to revoke tokens.
    path("admin/password_change/", RedirectView.as_view(pattern_name="account_change_password")),
    path("admin/", admin.site.urls),
    path("favicon.ico", lambda request: redirect(static("aisle/icon.svg"))),
    path("health/live/", probes.live, name="live"),
    path("health/ready/", probes.ready, name="ready"),
]
