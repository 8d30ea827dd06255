"""What a merge does with the rows of this module."""

from sias.repertoire import relations

relations.register("reception.Contact", "person", words="contacts")
relations.register("reception.Appointment", "person", words="rendez-vous")
relations.register("reception.Referral", "person", words="orientations")
