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
    """Create the groups and set their permissions."""
    Group.objects.get_or_create(name=Role.SELLER)
    scientists, _created = Group.objects.get_or_create(name=Role.DATA_SCIENTIST)
    scientists.permissions.set([_permission("view", model) for model in STAFF_MAY_SEE])
    administrators, _created = Group.objects.get_or_create(name=Role.ADMINISTRATOR)
    administrators.permissions.set(Permission.objects.all())


def _permission(verb: str, model: str) -> Permission:
    app, name = model.split(".")
    return Permission.objects.get(content_type__app_label=app, codename=f"{verb}_{name}")
