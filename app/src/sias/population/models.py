"""What was loaded."""

from django.db import models


class Load(models.Model):
    """A population that was loaded; the last one is what the tables hold, plus what agents did since."""

    persons = models.PositiveIntegerField()
    seed = models.IntegerField()
    digest = models.CharField(max_length=64)
    loaded_at = models.DateTimeField(auto_now_add=True)
    seconds = models.FloatField()

    def __str__(self) -> str:
        return f"{self.persons} (graine {self.seed})"
