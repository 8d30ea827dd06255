"""What people call the codes that rights and rules refer to."""

from collections.abc import Iterable

from sias.socle.models import Commune, Service, Territory


def of_places(codes: Iterable[str]) -> dict[str, str]:
    """Name today's territories and communes with these codes; what has no name is left out."""
    wanted = set(codes)
    return {one.code: str(one) for one in Commune.objects.filter(code__in=wanted)} | {
        one.code: str(one) for one in Territory.objects.on().filter(code__in=wanted)
    }


def of_services(codes: Iterable[str]) -> dict[str, str]:
    """Name today's services with these codes; what has no name is left out."""
    return {one.code: str(one) for one in Service.objects.on().filter(code__in=set(codes))}
