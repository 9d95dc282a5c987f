"""Who may do what. Sellers need no permissions: they see their own objects only."""

from enum import StrEnum

from django.contrib.auth.models import Group, Permission

from portal.models import User

STAFF_MAY_SEE = (
    "admin.view_logentry",
    "classifier.view_category",
    "classifier.view_categoryalias",
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
    SELLER = "Seller"
    DATA_SCIENTIST = "Data scientist"
    ADMINISTRATOR = "Administrator"

    def give(self, user: User) -> None:
        user.groups.add(Group.objects.get_or_create(name=self.value)[0])


def prepare_roles() -> None:
    """Create the groups and give them what their role needs, also what a new version of Aisle brought.

    What staff added stays; what they took away comes back: for other rights make another group.
    """
    Group.objects.get_or_create(name=Role.SELLER)
    scientists, _is_new = Group.objects.get_or_create(name=Role.DATA_SCIENTIST)
    scientists.permissions.add(*map(_permission, (*STAFF_MAY_SEE, *STAFF_MAY_DO)))
    administrators, _is_new = Group.objects.get_or_create(name=Role.ADMINISTRATOR)
    administrators.permissions.add(*Permission.objects.all())


def _permission(permission: str) -> Permission:
    app, codename = permission.split(".")
    return Permission.objects.get(content_type__app_label=app, codename=codename)
