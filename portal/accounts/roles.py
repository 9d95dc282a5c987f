"""Define the roles and their permissions. Sellers need none: they see only their own objects."""

from enum import StrEnum

from django.contrib.auth.models import Group, Permission

from portal.models import User

STAFF_MAY_SEE = (
    "admin.view_logentry",
    "classifier.view_category",
    "classifier.view_categoryalias",
    "classifier.view_categorysearchterm",
    "classifier.view_modelversion",
    "classifier.view_ensemblerule",
    "classifier.view_variant",
    "classifier.view_prediction",
    "classifier.view_deployment",
    "classifier.view_fault",
    "classifier.view_referenceproduct",
    "feedback.view_case",
    "feedback.view_feedback",
    "feedback.view_monitoringreport",
    "portal.view_product",
    "training.view_dataset",
    "training.view_example",
    "training.view_trainingrun",
)

STAFF_MAY_DO = (
    "classifier.deploy_modelversion",
    "feedback.judge_case",
    "feedback.review_feedback",
    "training.start_trainingrun",
)


class Role(StrEnum):
    """A group of users, by its name in the database."""

    SELLER = "Seller"
    DATA_SCIENTIST = "Data scientist"
    ADMINISTRATOR = "Administrator"

    def assign_to(self, user: User) -> None:
        """Add the user to the role's group."""
        user.groups.add(Group.objects.get_or_create(name=self.value)[0])


def prepare_roles() -> None:
    """Create the groups and grant them their permissions, including those that a new version of Aisle introduces.

    Permissions that staff added to a group stay; those that they removed are granted again.
    """
    Group.objects.get_or_create(name=Role.SELLER)
    scientists, _is_new = Group.objects.get_or_create(name=Role.DATA_SCIENTIST)
    scientists.permissions.add(*map(_permission, (*STAFF_MAY_SEE, *STAFF_MAY_DO)))
    administrators, _is_new = Group.objects.get_or_create(name=Role.ADMINISTRATOR)
    administrators.permissions.add(*Permission.objects.all())


def _permission(permission: str) -> Permission:
    app, codename = permission.split(".")
    return Permission.objects.get(content_type__app_label=app, codename=codename)
