"""Route the API, its document, its documentation and its console."""

from django.urls import include, path, register_converter
from django.urls.converters import StringConverter
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from portal.api.documentation.views import documentation
from portal.api.views import CategoryList, NoSuchAddress, PredictionViewSet, ProductViewSet


class AnythingConverter(StringConverter):
    """Any part of an address, also with slashes and encoded line breaks."""

    regex = r"[\s\S]+"


register_converter(AnythingConverter, "anything")

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("predictions", PredictionViewSet, basename="prediction")
router.register("products", ProductViewSet, basename="api-product")

urlpatterns = [
    path("v1/", include(router.urls)),
    path("v1/categories", CategoryList.as_view(), name="categories"),
    path("v1", NoSuchAddress.as_view()),
    path("v1/", NoSuchAddress.as_view()),
    path("v1/<anything:rest>", NoSuchAddress.as_view()),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", documentation, name="api_docs"),
    path("console/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="api_console"),
]
