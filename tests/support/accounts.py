"""Create users and log them in."""

from allauth.account.models import EmailAddress
from django.test import Client
from django.urls import reverse

from portal.accounts.roles import Role
from portal.models import User

PASSWORD = "a long enough password"


def make_user(email: str, role: Role = Role.SELLER) -> User:
    """Create a user with a verified address and the permissions of a role."""
    user = User.objects.create_user(email, PASSWORD, is_staff=role != Role.SELLER)
    user.is_superuser = role == Role.ADMINISTRATOR
    user.save()
    role.assign_to(user)
    EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    return user


def confirm_password(client: Client) -> None:
    """Prove once more who is logged in, as sensitive pages ask for it."""
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})


def logged_in_client(user: User) -> Client:
    """Return an HTTP client that is logged in as the user."""
    client = Client()
    client.force_login(user)
    return client
