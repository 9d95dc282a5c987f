"""Serve the API: predictions, products, answers and categories, each through its owner."""

import re
import uuid
from typing import Any, cast

from django.db import transaction
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import exceptions, generics, mixins, permissions, status, views
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from classifier.models import Category, Prediction
from classifier.serving import notifications
from classifier.taxonomy.search import find_categories
from feedback.services import NotAnswerable
from portal.api import idempotency
from portal.api.errors import NotYet
from portal.api.filters import ProductFilter
from portal.api.idempotency import IdempotentView, idempotent
from portal.api.parsers import JSONParser, MultiPartParser
from portal.api.product_pagination import ProductPagination
from portal.api.schema import ProblemsSerializer
from portal.api.serializers import (
    AnswerSerializer,
    CategoryQuerySerializer,
    CategorySerializer,
    FeedbackSerializer,
    PredictionRequestSerializer,
    PredictionSerializer,
    ProductChangesSerializer,
    ProductChangesWithPhotoSerializer,
    ProductSerializer,
    SingleProductSerializer,
)
from portal.api.strictness import KnownParameters, StrictSerializer
from portal.api.throttles import UploadThrottle, UserThrottle
from portal.api.uploads import take_upload
from portal.models import Product, ProductPhoto, User
from portal.products import services
from portal.products.views import stored_photo

LONGEST_WAIT = 10
MOST_CATEGORIES_FOUND = 100
WAIT = re.compile(r"\bwait\s*=\s*\"?(\d{1,6})\"?", re.ASCII)


UPLOAD_RESPONSES = {
    413: OpenApiResponse(ProblemsSerializer, "The photo or a text is too large."),
    415: OpenApiResponse(ProblemsSerializer, "Another media type, or the photo is not a JPEG, PNG, WebP or HEIC."),
    503: OpenApiResponse(
        ProblemsSerializer, "The queue is too long or a server is down; `Retry-After` says when to try again."
    ),
}
PREFER = OpenApiParameter(
    "Prefer",
    str,
    OpenApiParameter.HEADER,
    description=f"`wait=SECONDS` (RFC 7240): wait up to that long for the result, at most {LONGEST_WAIT} seconds.",
)

PREDICTION_ID = OpenApiParameter("id", OpenApiTypes.UUID, OpenApiParameter.PATH, description="The prediction's id.")
PHOTO_ID = OpenApiParameter("photo", OpenApiTypes.UUID, OpenApiParameter.PATH, description="The photo's id.")
PRODUCT_ID = OpenApiParameter("id", OpenApiTypes.UUID, OpenApiParameter.PATH, description="The product's id.")


class PredictionViewSet(IdempotentView, KnownParameters, GenericViewSet[Prediction]):
    """Ask for the five likeliest categories, read the result, answer it."""

    lookup_value_converter = "uuid"
    serializer_class = PredictionSerializer
    parser_classes = [MultiPartParser]
    queryset = Prediction.objects.with_versions().select_related("product", "feedback__category")

    def get_queryset(self) -> Any:
        return super().get_queryset().filter(seller=cast(User, self.request.user))

    def get_throttles(self) -> list[Any]:
        return [UploadThrottle(), UserThrottle()] if self.action == "create" else [UserThrottle()]

    @extend_schema(
        operation_id="predict",
        request={"multipart/form-data": PredictionRequestSerializer},
        parameters=[PREFER, idempotency.PARAMETER],
        responses={
            200: OpenApiResponse(PredictionSerializer, "The result (with `Prefer: wait`)."),
            202: OpenApiResponse(PredictionSerializer, "Accepted; fetch the result from `Location`."),
            409: OpenApiResponse(ProblemsSerializer, "The first request with this key is being processed."),
            422: OpenApiResponse(ProblemsSerializer, "The key belongs to another request."),
            **UPLOAD_RESPONSES,
        },
    )
    @idempotent
    def create(self, request: Request) -> Response:
        """List a product and predict its category."""
        form = PredictionRequestSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        seller = cast(User, request.user)
        values = take_upload(request, form.validated_data)
        with transaction.atomic():
            product = services.submit_product(seller=seller, **values)
            self.store_response(self._answer(product.prediction_id))
        wait = _preferred_wait(request)
        is_there = wait is not None and notifications.wait_until_finished(product.prediction_id, seconds=wait)
        return self._answer(product.prediction_id, is_there, wait)

    @extend_schema(operation_id="get_prediction", parameters=[PREDICTION_ID], responses=PredictionSerializer)
    def retrieve(self, request: Request, pk: uuid.UUID) -> Response:
        """Fetch a prediction."""
        return Response(self.get_serializer(get_object_or_404(self.get_queryset(), pk=pk)).data)

    @extend_schema(
        operation_id="answer_prediction",
        parameters=[PREDICTION_ID, idempotency.PARAMETER],
        request=AnswerSerializer,
        responses={
            200: FeedbackSerializer,
            409: OpenApiResponse(
                ProblemsSerializer, "There is no result yet, or the first request with this key runs."
            ),
            422: OpenApiResponse(ProblemsSerializer, "The key belongs to another request."),
        },
    )
    @action(detail=True, methods=["post"], parser_classes=[JSONParser])
    @idempotent
    def feedback(self, request: Request, pk: uuid.UUID) -> Response:
        """Answer which category is right. A later answer replaces the earlier one."""
        prediction = get_object_or_404(self.get_queryset(), pk=pk)
        form = AnswerSerializer(data=request.data, context={"prediction": prediction})
        form.is_valid(raise_exception=True)
        try:
            with transaction.atomic():
                feedback = services.record_answer(prediction=prediction, **form.validated_data)
                response = Response(FeedbackSerializer(feedback).data)
                self.store_response(response)
        except NotAnswerable as error:
            raise NotYet(str(error)) from error
        return response

    def _answer(self, prediction: uuid.UUID, is_there: bool = False, wait: int | None = None) -> Response:
        data = self.get_serializer(self.get_queryset().get(pk=prediction)).data
        response = Response(data, status=status.HTTP_200_OK if is_there else status.HTTP_202_ACCEPTED)
        response["Location"] = self.reverse_action("detail", args=[prediction])
        if wait is not None:
            response["Preference-Applied"] = f"wait={wait}"
        return response


@extend_schema_view(
    list=extend_schema(operation_id="list_products"),
    retrieve=extend_schema(operation_id="get_product", parameters=[PRODUCT_ID]),
    destroy=extend_schema(operation_id="delete_product", parameters=[PRODUCT_ID]),
)
class ProductViewSet(
    IdempotentView,
    KnownParameters,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    GenericViewSet[Product],
):
    """Your products."""

    lookup_value_converter = "uuid"
    serializer_class = SingleProductSerializer
    parser_classes = [JSONParser, MultiPartParser]
    filterset_class = ProductFilter
    pagination_class = ProductPagination
    queryset = Product.objects.with_answers()

    def known_parameters(self) -> list[str]:
        return [*ProductFilter.base_filters, *ProductPagination.parameters] if self.action == "list" else []

    def get_queryset(self) -> Any:
        seller = cast(User, self.request.user)
        products = Product.objects.with_answers().prefetch_related("photos")
        if self.action == "list" and self.request.query_params.get("deleted") == "true":
            return products.trash_of(seller)
        return products.for_seller(seller)

    def get_serializer_class(self) -> Any:
        # Looking for duplicates takes queries for each product.
        return ProductSerializer if self.action == "list" else super().get_serializer_class()

    def get_throttles(self) -> list[Any]:
        return [UploadThrottle(), UserThrottle()] if self.action == "partial_update" else [UserThrottle()]

    def list(self, request: Request) -> Response:
        """List your products. The newest come first, or with `sort` the best matches of `q`."""
        return super().list(request)

    def retrieve(self, request: Request, pk: uuid.UUID) -> Response:
        """Fetch a product."""
        return super().retrieve(request, pk=pk)

    @extend_schema(
        operation_id="change_product",
        parameters=[PRODUCT_ID, PREFER],
        request={
            "application/json": ProductChangesSerializer,
            "multipart/form-data": ProductChangesWithPhotoSerializer,
        },
        responses={200: SingleProductSerializer, **UPLOAD_RESPONSES},
    )
    def partial_update(self, request: Request, pk: uuid.UUID) -> Response:
        """Change a product. Other text or another main photo gets other suggestions; the chosen category stays."""
        product = self.get_object()
        form = ProductChangesWithPhotoSerializer(data=request.data, context={"product": product})
        form.is_valid(raise_exception=True)
        values = take_upload(request, form.validated_data, product=product)
        try:
            changed = services.edit_product(product=product, **values)
        except Product.DoesNotExist as error:
            raise exceptions.NotFound() from error
        except ProductPhoto.DoesNotExist as error:  # another request has removed it just now
            words = _("One of these photos is no longer there.")
            raise exceptions.ValidationError({"photos": words}, "unknown_photo") from error
        wait = _preferred_wait(request)
        if wait is not None:
            notifications.wait_until_finished(changed.prediction_id, seconds=wait)
        response = Response(self.get_serializer(self.get_queryset().get(pk=changed.pk)).data)
        if wait is not None:
            response["Preference-Applied"] = f"wait={wait}"
        return response

    @extend_schema(
        operation_id="get_product_photo",
        parameters=[PRODUCT_ID, PHOTO_ID],
        responses={(200, "image/jpeg"): OpenApiTypes.BINARY},
    )
    @action(detail=True, url_path="photos/<uuid:photo>", url_name="photo")
    def photo(self, request: Request, pk: uuid.UUID, photo: uuid.UUID) -> HttpResponseBase:
        """Fetch a photo of a product. It is a JPEG of at most 1600 pixels on its longer side."""
        return stored_photo(get_object_or_404(self.get_object().photos.all(), pk=photo).large)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        # A photo is a JPEG whatever is asked for; an error about it is JSON.
        return super().perform_content_negotiation(request, force or self.action == "photo")

    def destroy(self, request: Request, pk: uuid.UUID) -> Response:
        """Delete a product. It can be restored for some days; its predictions and answers stay as history."""
        return super().destroy(request, pk=pk)

    def perform_destroy(self, instance: Product) -> None:
        services.trash_products(products=self.get_queryset().filter(pk=instance.pk))

    @extend_schema(
        operation_id="restore_product",
        parameters=[PRODUCT_ID, idempotency.PARAMETER],
        request=None,
        responses={
            200: SingleProductSerializer,
            409: OpenApiResponse(ProblemsSerializer, "The first request with this key is being processed."),
            422: OpenApiResponse(ProblemsSerializer, "The key belongs to another request."),
        },
    )
    @action(detail=True, methods=["post"])
    @idempotent
    def restore(self, request: Request, pk: uuid.UUID) -> Response:
        """Restore a deleted product."""
        deleted = Product.objects.trash_of(cast(User, request.user)).filter(pk=pk)
        get_object_or_404(deleted)
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        with transaction.atomic():
            if not services.restore_products(products=deleted):
                raise exceptions.NotFound()
            response = Response(self.get_serializer(self.get_queryset().get(pk=pk)).data)
            self.store_response(response)
        return response


class CategoryList(KnownParameters, generics.ListAPIView[Category]):
    """List the categories that can be chosen."""

    serializer_class = CategorySerializer
    queryset = Category.objects.active()
    pagination_class = None
    filter_backends: list[Any] = []

    def known_parameters(self) -> list[str]:
        return ["q"]

    @extend_schema(operation_id="list_categories", parameters=[CategoryQuerySerializer])
    def get(self, request: Request) -> Response:
        """List the categories by name, all on one page; or search for some with `q`."""
        form = CategoryQuerySerializer(data=request.query_params)
        form.is_valid(raise_exception=True)
        query = form.validated_data["q"]
        if not query:
            return self.list(request)
        found = find_categories(query, limit=MOST_CATEGORIES_FOUND)
        return Response(self.get_serializer(found.categories, many=True).data)


class NoSuchAddress(views.APIView):
    """A 404 in the API's error format for any other address under the API."""

    permission_classes = [permissions.AllowAny]
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        words = _("There is no such address. The documentation at %(address)s lists all.")
        if request.path.endswith("/"):
            words = _("There is no such address: those of the API have no slash at the end. See %(address)s.")
        raise exceptions.NotFound(words % {"address": request.build_absolute_uri(reverse("api_docs"))})


def _preferred_wait(request: Request) -> int | None:
    """Return the seconds of a `Prefer: wait=…` header, at most LONGEST_WAIT, or None."""
    found = WAIT.search(request.headers.get("Prefer", ""))
    return min(int(found[1]), LONGEST_WAIT) if found else None
