"""Application configuration."""

from django.apps import AppConfig
from django.db.models.signals import post_save


class DuplicatesConfig(AppConfig):
    """Registers the module."""

    name = "sias.duplicates"
    label = "duplicates"

    def ready(self) -> None:
        """Look at each new person at once; register the duty, and who took over a merged file."""
        from sias.duplicates import detection, duties, merging, panels  # noqa: F401, PLC0415 - models are ready now
        from sias.habilitations import menu  # noqa: PLC0415
        from sias.repertoire.models import Person  # noqa: PLC0415

        def look(sender: object, instance: Person, *, created: bool, **_kwargs: object) -> None:  # noqa: ARG001
            if created:
                detection.detect_one(instance.pk)

        post_save.connect(look, sender=Person, weak=False, dispatch_uid="sias-duplicates")
        menu.register("Doublons", "duplicates:queue", ("repertoire", "fusionner"), order=40)
