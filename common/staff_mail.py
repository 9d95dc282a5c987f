"""Find the addresses of the staff who have a permission."""

from django.contrib.auth.backends import ModelBackend


def staff_addresses(permission: str) -> list[str]:
    """Return the addresses of active staff who have the permission "app.codename", directly or through a group."""
    people = ModelBackend().with_perm(permission).filter(is_staff=True)
    return list(people.order_by("email").values_list("email", flat=True))
