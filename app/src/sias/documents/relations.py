"""What a merge of persons does with their documents."""

from sias.repertoire import relations

relations.register("documents.Document", "person", words="documents")
