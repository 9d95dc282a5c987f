"""Who may do what. Sellers need no permissions: they see their own objects only."""

from enum import StrEnum

from django.contrib.auth.models import Group, Permission

from portal.models import User

STAFF_MAY_SEE = (
    "classifier.category",
    "classifier.categoryalias",
    "classifier.modelversion",
    "classifier.ensemblerule",
    "classifier.variant",
    "classifier.prediction",
    "feedback.feedback",
    "portal.product",
)


class Role(StrEnum):
    SELLER = "Seller"
    DATA_SCIENTIST = "Data scientist"
    ADMINISTRATOR = "Administrator"

    def give(self, user: User) -> None:
        user.groups.add(Group.objects.get_or_create(name=self.value)[0])


def prepare_roles() -> None:
    """Create the groups that are missing, with their permissions. What staff changed since stays as it is."""
    Group.objects.get_or_create(name=Role.SELLER)
    scientists, is_new = Group.objects.get_or_create(name=Role.DATA_SCIENTIST)
    if is_new:
        scientists.permissions.set([_permission("view", model) for model in STAFF_MAY_SEE])
    administrators, is_new = Group.objects.get_or_create(name=Role.ADMINISTRATOR)
    if is_new:
        administrators.permissions.set(Permission.objects.all())


def _permission(verb: str, model: str) -> Permission:
    app, name = model.split(".")
    return Permission.objects.get(content_type__app_label=app, codename=f"{verb}_{name}")
