"""Sign in and out."""

from http import HTTPStatus

from django.conf import settings
from django.contrib.auth import views
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect

from sias.accounts.ways import FAREWELLS, WAYS, SignInUnavailableError
from sias.platform.failover import retry_safe


class SignInForm(AuthenticationForm):
    """Django's form in our words."""

    error_messages = {  # noqa: RUF012 - Django's interface
        "invalid_login": "Identifiant ou mot de passe inconnu. Vérifiez la touche Majuscule.",
        "inactive": "Ce compte est fermé.",
    }
    unavailable = False  # whether nobody could check the password

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "Identifiant"
        self.fields["username"].widget.attrs |= {"autocomplete": "username"}
        self.fields["password"].label = "Mot de passe"

    def clean(self) -> dict:
        """Ask who checks passwords; say it in words when they cannot be asked."""
        try:
            return super().clean()
        except SignInUnavailableError as away:
            self.unavailable = True
            self.add_error(None, str(away))
            return self.cleaned_data


@method_decorator(csrf_protect, name="dispatch")
class SignIn(views.LoginView):
    """Sign in."""

    template_name = "accounts/sign_in.html"
    form_class = SignInForm
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: object) -> dict:
        """Add the other ways in."""
        return super().get_context_data(ways=[way for way in WAYS if way.open()], **kwargs)

    def form_invalid(self, form: SignInForm) -> HttpResponse:
        """Show the form again: 503 when it is not the agent's fault."""
        response = super().form_invalid(form)
        if form.unavailable:
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
            response["Retry-After"] = str(settings.SIAS_RETRY_AFTER)
        return response


class SignOut(views.LogoutView):
    """Sign out, here and where the agent came from."""

    def post(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        """End the session."""
        elsewhere = [answer for ask in FAREWELLS if (answer := ask(request)) is not None]
        response = super().post(request, *args, **kwargs)
        return elsewhere[0] if elsewhere else response


_sign_in = SignIn.as_view()


def sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in."""
    return _sign_in(request)


sign_in.login_required = False
sign_in = retry_safe(sign_in)
sign_out = retry_safe(SignOut.as_view())
