"""Sign in and out."""

from django.contrib.auth import views
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect

from sias.platform.failover import retry_safe


class SignInForm(AuthenticationForm):
    """Django's form in our words."""

    error_messages = {  # noqa: RUF012 - Django's interface
        "invalid_login": "Identifiant ou mot de passe inconnu. Vérifiez la touche Majuscule.",
        "inactive": "Ce compte est fermé.",
    }

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "Identifiant"
        self.fields["username"].widget.attrs |= {"autocomplete": "username"}
        self.fields["password"].label = "Mot de passe"


@method_decorator(csrf_protect, name="dispatch")
class SignIn(views.LoginView):
    """Sign in."""

    template_name = "accounts/sign_in.html"
    form_class = SignInForm
    redirect_authenticated_user = True


_sign_in = SignIn.as_view()


def sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in."""
    return _sign_in(request)


sign_in.login_required = False
sign_in = retry_safe(sign_in)
sign_out = retry_safe(views.LogoutView.as_view())
