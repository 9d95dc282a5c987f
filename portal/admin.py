"""Register the admin pages of users, groups, products, schedules and the audit log."""

from typing import Any

from allauth.account.admin import EmailAddressAdmin
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django_celery_beat.admin import PeriodicTaskAdmin, PeriodicTaskForm, TaskSelectWidget
from django_celery_beat.models import PeriodicTask
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from classifier.admin import ReadOnlyAdmin, SellersAdmin, photo_tag, suggestion_bars
from portal.accounts import notices
from portal.models import Product, User
from portal.privacy.admin import ERASE, erase_page

admin.site.unregister(Group)
admin.site.unregister(AuthToken)  # only the owner of a token creates and revokes it, on the account page
admin.site.unregister(Authenticator)
admin.site.unregister(EmailAddress)


@admin.register(User)
class UserAdmin(BaseUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["email", "name", "roles", "is_active", "is_staff", "date_joined"]
    list_filter = ["is_active", "is_staff", "groups"]
    search_fields = ["email", "name"]
    ordering = ["-date_joined"]
    actions_detail = ["erase"]
    readonly_fields = ["date_joined", "last_login"]
    fieldsets = [
        (None, {"fields": ["email", "name", "password"]}),
        (_("Rights"), {"fields": ["is_active", "is_staff", "is_superuser", "groups"]}),
        (_("Dates"), {"fields": ["date_joined", "last_login"]}),
    ]
    add_fieldsets = [(None, {"classes": ["wide"], "fields": ["email", "password1", "password2"]})]

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Mail the owner, at the earlier addresses, when staff change the account's address."""
        addresses = notices.confirmed_addresses(User.objects.get(pk=obj.pk)) if change else []
        super().save_model(request, obj, form, change)
        if "email" in form.changed_data:
            notices.notify(request, obj, notices.ADDRESS_CHANGED, to=addresses)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Mail the owner when staff set another password."""
        before = User.objects.filter(pk=id).values_list("password", flat=True).first()
        response = super().user_change_password(request, id, form_url)
        if before and (user := User.objects.exclude(password=before).filter(pk=id).first()):
            notices.notify(request, user, notices.PASSWORD_CHANGED)
        return response

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False  # deleting the row would leave photos, archive and examples behind: see `erase`

    def has_erase_permission(self, request: HttpRequest, object_id: int | None = None) -> bool:
        return request.user.has_perm(ERASE)

    @action(description=_("Erase this account"), url_path="erase", permissions=["erase"])
    def erase(self, request: HttpRequest, object_id: int) -> HttpResponse:
        return erase_page(self, request, object_id)

    @admin.display(description=_("roles"))
    def roles(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all())


@admin.register(EmailAddress)
class AddressAdmin(EmailAddressAdmin, ModelAdmin):
    """The addresses of accounts; the owner is mailed at the earlier addresses when staff change them."""

    def save_model(self, request: HttpRequest, obj: EmailAddress, form: Any, change: bool) -> None:
        before = notices.confirmed_addresses(obj.user)
        super().save_model(request, obj, form, change)
        template = notices.ADDRESS_CHANGED if change else notices.ADDRESS_ADDED
        notices.notify(request, obj.user, template, to=before)

    def delete_model(self, request: HttpRequest, obj: EmailAddress) -> None:
        before = notices.confirmed_addresses(obj.user)
        super().delete_model(request, obj)
        notices.notify(request, obj.user, notices.ADDRESS_REMOVED, to=before)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[EmailAddress]) -> None:
        for address in queryset:
            self.delete_model(request, address)


@admin.register(Group)
class GroupAdmin(ModelAdmin):
    search_fields = ["name"]
    filter_horizontal = ["permissions"]


class UnfoldTaskSelectWidget(UnfoldAdminSelectWidget, TaskSelectWidget):
    """Choose among the registered tasks, in the admin's look."""


class UnfoldPeriodicTaskForm(PeriodicTaskForm):
    """Edit when a task runs."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = UnfoldTaskSelectWidget()


admin.site.unregister(PeriodicTask)


@admin.register(PeriodicTask)
class UnfoldPeriodicTaskAdmin(PeriodicTaskAdmin, ModelAdmin):
    """Show and edit when each periodic task runs."""

    form = UnfoldPeriodicTaskForm
    list_display = ["name", "enabled", "scheduler", "last_run_at"]


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """The audit log: changes that staff made in the admin and in the review queue, and exports."""

    list_display = ["action_time", "user", "content_type", "object_repr", "action_flag", "words"]
    list_filter = ["action_flag", "content_type"]
    list_select_related = ["user", "content_type"]
    ordering = ["-pk"]
    search_fields = ["pk"]
    search_help_text = _("A person's whole e-mail address")
    fields = ["action_time", "user", "content_type", "object_id", "object_repr", "action_flag", "words"]
    readonly_fields = ["words"]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"title": _("Audit log"), **(extra_context or {})}
        return super().changelist_view(request, context)  # type: ignore[no-any-return]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LogEntry], search_term: str
    ) -> tuple[QuerySet[LogEntry], bool]:
        if not (email := search_term.strip().lower()):
            return queryset, False
        return queryset.filter(user=Subquery(User.objects.filter(email=email).values("pk")[:1])), False

    @admin.display(description=_("what"))
    def words(self, entry: LogEntry) -> str:
        return entry.get_change_message()


@admin.register(Product)
class ProductAdmin(SellersAdmin):
    list_display = ["picture", "title", "seller", "state_name", "category", "created_at", "deleted_at"]
    list_display_links = ["picture", "title"]
    list_filter = ["category", "prediction__state", "created_at", ("deleted_at", admin.EmptyFieldListFilter)]
    search_help_text = _("A whole id, a seller's whole e-mail address or a whole SKU")
    search_word = "sku"
    readonly_fields = ["large_picture", "five_bars"]
    fields = [
        "id", "large_picture", "title", "description", "sku", "seller", "five_bars", "category", "answer",
        "prediction", "created_at", "updated_at", "deleted_at",
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        return Product.objects.with_answers().select_related("seller")

    @admin.display(description=_("photo"))
    def picture(self, product: Product) -> Any:
        return photo_tag(product.prediction, "small")

    @admin.display(description=_("photo"))
    def large_picture(self, product: Product) -> Any:
        return photo_tag(product.prediction, "large")

    @admin.display(description=_("state"))
    def state_name(self, product: Product) -> str:
        return str(product.state.label)

    @admin.display(description=_("five likeliest"))
    def five_bars(self, product: Product) -> Any:
        return suggestion_bars(product.prediction.top5)
