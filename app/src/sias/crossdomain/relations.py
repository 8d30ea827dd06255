"""What a merge of persons does with who follows them."""

from sias.repertoire import relations

relations.register("crossdomain.Involvement", "person", words="suivis")
relations.register("crossdomain.Signpost", "person")
