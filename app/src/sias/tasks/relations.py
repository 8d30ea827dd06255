"""What a merge of persons does with the tasks about them."""

from sias.repertoire import relations

relations.register("tasks.Task", "person", words="tâches")
