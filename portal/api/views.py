"""Serve the API: predictions, products, answers and categories, each through its owner."""

import re
import uuid
from datetime import UTC, datetime
from typing import Any, cast

import django_filters
from django import forms
from django.core.exceptions import ValidationError
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django_filters.fields import IsoDateTimeField
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import exceptions, generics, mixins, permissions, status, views, viewsets
from rest_framework.decorators import action
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from classifier.models import Category, Prediction
from classifier.serving import notifications
from feedback.services import NotAnswerable
from portal.api.parsers import JSONParser
from portal.api.schema import ProblemsSerializer
from portal.api.serializers import (
    AnswerSerializer,
    CategorySerializer,
    FeedbackSerializer,
    PredictionRequestSerializer,
    PredictionSerializer,
    ProductSerializer,
)
from portal.api.throttles import UploadThrottle, UserThrottle
from portal.models import Product, User
from portal.products import services
from portal.products.photos import PhotoError
from portal.products.services import QueueFull

LONGEST_WAIT = 10
WAIT = re.compile(r"\bwait\s*=\s*\"?(\d{1,6})\"?", re.ASCII)


RETRY_PHOTO_SECONDS = 60  # the messages say "in a minute"


class RefusedPhoto(exceptions.APIException):
    """A PhotoError as an API error, with Retry-After where trying again may succeed."""

    def __init__(self, error: PhotoError) -> None:
        super().__init__(str(error), code=error.code)
        self.status_code = error.status
        if error.status == status.HTTP_503_SERVICE_UNAVAILABLE:
            self.wait = RETRY_PHOTO_SECONDS


class NotYet(exceptions.APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "no_result_yet"


class QueueIsFull(exceptions.APIException):
    """A QueueFull as an API error, with Retry-After."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "queue_full"

    def __init__(self, error: QueueFull) -> None:
        super().__init__(_("Too many products are waiting. Please try again in %d seconds.") % error.seconds)
        self.wait = error.seconds


PREFER = OpenApiParameter(
    "Prefer",
    str,
    OpenApiParameter.HEADER,
    description=f"`wait=SECONDS` (RFC 7240): wait up to that long for the result, at most {LONGEST_WAIT} seconds.",
)


class PredictionViewSet(viewsets.GenericViewSet[Prediction]):
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
        parameters=[PREFER],
        responses={
            200: OpenApiResponse(PredictionSerializer, "The result (with `Prefer: wait`)."),
            202: OpenApiResponse(PredictionSerializer, "Accepted; fetch the result from `Location`."),
            413: OpenApiResponse(ProblemsSerializer, "The photo or a text is too large."),
            415: OpenApiResponse(ProblemsSerializer, "Not multipart, or the photo is not a JPEG, PNG or WebP."),
            503: OpenApiResponse(
                ProblemsSerializer,
                "The queue is too long or a server is down; `Retry-After` says when to try again.",
            ),
        },
    )
    def create(self, request: Request) -> Response:
        """List a product and predict its category."""
        form = PredictionRequestSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        values = form.validated_data
        seller = cast(User, request.user)
        priority = Prediction.Priority.BULK if values.pop("bulk") else Prediction.Priority.INTERACTIVE
        try:
            # Before the photo is decoded, which is the costly part of a request.
            services.check_queue(priority=priority)
            upload = values.pop("image", None)
            draft = services.create_photo_draft(seller=seller, upload=upload) if upload is not None else None
        except QueueFull as error:
            raise QueueIsFull(error) from error
        except PhotoError as error:
            raise RefusedPhoto(error) from error
        product = services.submit_product(seller=seller, draft=draft, priority=priority, **values)
        wait = _preferred_wait(request)
        is_there = wait is not None and notifications.wait_until_finished(product.prediction_id, seconds=wait)
        return self._answer(product.prediction_id, is_there, wait)

    @extend_schema(operation_id="get_prediction", responses=PredictionSerializer)
    def retrieve(self, request: Request, pk: uuid.UUID) -> Response:
        """Fetch a prediction."""
        return Response(self.get_serializer(get_object_or_404(self.get_queryset(), pk=pk)).data)

    @extend_schema(
        operation_id="answer_prediction",
        request=AnswerSerializer,
        responses={
            200: FeedbackSerializer,
            409: OpenApiResponse(ProblemsSerializer, "There is no result yet."),
        },
    )
    @action(detail=True, methods=["post"], parser_classes=[JSONParser])
    def feedback(self, request: Request, pk: uuid.UUID) -> Response:
        """Say which category is right. A later answer replaces the earlier one."""
        prediction = get_object_or_404(self.get_queryset(), pk=pk)
        form = AnswerSerializer(data=request.data, context={"prediction": prediction})
        form.is_valid(raise_exception=True)
        try:
            feedback = services.record_answer(prediction=prediction, **form.validated_data)
        except NotAnswerable as error:
            raise NotYet(str(error)) from error
        return Response(FeedbackSerializer(feedback).data)

    def _answer(self, prediction: uuid.UUID, is_there: bool, wait: int | None) -> Response:
        data = self.get_serializer(self.get_queryset().get(pk=prediction)).data
        response = Response(data, status=status.HTTP_200_OK if is_there else status.HTTP_202_ACCEPTED)
        response["Location"] = self.reverse_action("detail", args=[prediction])
        if wait is not None:
            response["Preference-Applied"] = f"wait={wait}"
        return response


class GivenValues(forms.Form):
    """A form that rejects filters without a value: an empty date is a mistake and doesn't mean any date."""

    def clean(self) -> dict[str, Any]:
        for name, field in self.fields.items():
            if type(field) is not forms.CharField and self.data.get(name) == "":
                self.add_error(name, ValidationError(_("This must not be empty."), code="empty"))
        return self.cleaned_data


class MomentField(IsoDateTimeField):
    """A time converted to UTC: PostgreSQL rejects some time zones that Python accepts."""

    def clean(self, value: Any) -> datetime | None:
        moment: datetime | None = super().clean(value)
        try:
            return moment and moment.astimezone(UTC)
        except OverflowError as error:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from error


class MomentFilter(django_filters.IsoDateTimeFilter):
    field_class = MomentField


class ProductFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(method="matching", label="Beginnings of words in title, description or SKU.")
    state = django_filters.ChoiceFilter(choices=Product.State.choices, method="in_state")
    category = django_filters.CharFilter("category__slug", label="The chosen category's slug.")
    sku = django_filters.CharFilter("sku")
    created_after = MomentFilter("created_at", "gte")
    created_before = MomentFilter("created_at", "lt")

    class Meta:
        model = Product
        fields: list[str] = []
        form = GivenValues

    def matching(self, products: Any, name: str, value: str) -> Any:
        return products.matching(value)

    def in_state(self, products: Any, name: str, value: str) -> Any:
        return products.in_state(Product.State(value))


class ProductViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Product]):
    """Your products, newest first."""

    lookup_value_converter = "uuid"
    serializer_class = ProductSerializer
    filterset_class = ProductFilter
    queryset = Product.objects.with_answers()

    def get_queryset(self) -> Any:
        return super().get_queryset().filter(seller=cast(User, self.request.user))


class CategoryList(generics.ListAPIView[Category]):
    """List the active categories by name."""

    serializer_class = CategorySerializer
    queryset = Category.objects.active()
    pagination_class = None
    filter_backends: list[Any] = []


class NoSuchAddress(views.APIView):
    """A 404 in the API's error format for any other address under the API."""

    permission_classes = [permissions.AllowAny]
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise exceptions.NotFound


def _preferred_wait(request: Request) -> int | None:
    """Return the seconds of a `Prefer: wait=…` header, at most LONGEST_WAIT, or None."""
    found = WAIT.search(request.headers.get("Prefer", ""))
    return min(int(found[1]), LONGEST_WAIT) if found else None
