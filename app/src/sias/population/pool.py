"""Names and addresses of the region to draw from. Invented combinations of real elements: nobody in particular.

Surnames follow a Zipf law over a pool of Germanic, French, Italian, Polish, Portuguese, Turkish and Maghrebi names, the
common ones first, then forms composed from roots and endings: a few tens of thousands of distinct names in a million
persons, as a real registry has.
"""

from functools import cache
from itertools import accumulate, product

from sias.socle.text import compact

COMMON = (
    "MULLER SCHMITT KLEIN WEBER MEYER SCHNEIDER BECKER WAGNER HOFFMANN MARTIN KIEFFER BAUER SCHMIDT THIEL SIMON "
    "FISCHER SCHWARTZ LAURENT BERNARD THOMAS SCHAEFFER ZIMMERMANN KOCH WOLFF HEN KELLER STEIN GROSS BRAUN LANG MULLER "
    "WALTER PETIT ROBERT MICHEL RICHARD DURAND MOREAU LEFEBVRE LEROY ROUX DAVID BERTRAND MOREL FOURNIER GIRARD BONNET "
    "SCHOUMACHER SCHUMACHER KRIER KREMER KLING KUHN KUNTZ LENTZ LORENTZ LOUIS MANGIN MARCHAL NICOLAS NOEL OSTER PAULUS "
    "PETER PIERRE PIERRON POINSIGNON REITER REMY RENARD RITTER SAUER SCHAFF SCHEFFER SCHILTZ SCHIRRA SCHMITTER "
    "SCHREINER SCHULER SCHULTZ SCHUTZ SIEBERT SPECK STEFFEN STREIFF THIRY TRITZ ULRICH VOGEL WEIS WEISS WENDEL WERNER "
    "WILHELM WINTER ZINGRAFF ADAM ALBRECHT ANDRE ANTOINE ARNOLD BACH BARTH BASTIEN BECK BELLOY BERGER BIER BLAISE "
    "BOHN BOUR BOURGEOIS BREIT BRUN BUCHHEIT CLAUDE COLIN COLLIN CONRAD DIDIER DIETRICH DILLENSCHNEIDER EBERHARDT "
    "EGLOFF EHRHARDT ENGEL FABER FERRY FEY FLAUSS FRANCOIS FREY FRIEDRICH FRITZ FUCHS GAERTNER GANGLOFF GEORGES "
    "GERARD GROSJEAN GUERIN GUILLAUME HAAS HAMANN HARTMANN HAUSER HEIN HENRION HENRY HERMANN HERRMANN HESSE HILBERT "
    "HILT HOUILLON HUBER HUBERT HUMBERT JACOB JACQUES JACQUEMIN JAGER JUNG KAISER KARST KAYSER KESSLER KIRCH KIRSCH "
    "KRAUSE KREBS KRIEGER LACROIX LAMBERT LAMY LAUER LECLERC LEONARD LEJEUNE LORRAIN LUDWIG MAILLARD MAIRE MALLICK "
    "MATHIEU MATHIS MAURER MAYER MERTZ MICHAUX MOSER NEU NICKLAUS OBERLE PAX PETRY PFEIFFER PORT RAUCH REICHERT REINERT "
    "REINHARDT RICHERT RISSE ROTH RUPP SAINT-DIZIER SCHALL SCHANG SCHELL SCHERER SCHLOSSER SCHMAUCH SCHOTT SCHROEDER "
    "SCHUSTER SEILER SOMMER STAUDER STAUB STOCK STRAUSS THIEBAUT THIEBAULT THIL TOUSSAINT VAUTRIN VINCENT VOIGNIER "
    "WACK WEIBEL WEILAND WEINGARTNER WEISSE WILMOUTH WIRTH ZENNER ZIEGLER "
    "ROSSI FERRARI RUSSO BIANCHI ROMANO GALLO COSTA FONTANA CONTI ESPOSITO RICCI MARINO GRECO BRUNO MORETTI BARBIERI "
    "LOMBARDI GIORDANO RINALDI COLOMBO MANCINI LONGO LEONE MARTINELLI SANTORO MARIANI VITALE CARUSO FERRARA "
    "NOWAK KOWALSKI WISNIEWSKI WOJCIK KOWALCZYK KAMINSKI LEWANDOWSKI ZIELINSKI SZYMANSKI WOZNIAK KOZLOWSKI JANKOWSKI "
    "MAZUR KWIATKOWSKI KRAWCZYK PIOTROWSKI GRABOWSKI PAWLOWSKI MICHALSKI KROL WIECZOREK JABLONSKI DUDEK ADAMCZYK "
    "DA-SILVA FERREIRA PEREIRA DOS-SANTOS GOMES RODRIGUES MARTINS FERNANDES GONCALVES LOPES ALVES PINTO RIBEIRO CARVALHO "
    "TEIXEIRA MOREIRA CORREIA MENDES NUNES SOARES VIEIRA MONTEIRO CARDOSO DA-COSTA "
    "YILMAZ KAYA DEMIR CELIK SAHIN YILDIZ YILDIRIM OZTURK AYDIN OZDEMIR ARSLAN DOGAN KILIC ASLAN CETIN KARA KOC KURT "
    "OZKAN SIMSEK POLAT KORKMAZ "
    "BENALI BEN-AHMED BENSAID BOUZID HADDAD HAMDI MANSOURI MEZIANE SAIDI ZEROUAL EL-AMRANI BOUCHAREB CHERIF LAHMAR "
    "NGUYEN TRAN PHAM DIALLO TRAORE DIOP KONE IBRAHIMI HASSANI KRASNIQI BERISHA"
).split()

GERMAN_ROOTS = (
    "ALT AUER BACH BAUM BERG BIRK BLUM BRAND BREIT BRUCK BUCH BURG DAHL DORN EICH EISEN ENGEL ERLEN FALK FELD FINK FREUD "
    "FRIED GOLD GRAF GRUN HART HEID HELD HERZ HIRSCH HOCH HOF HOLZ HORN KALT KAUF KIRCH KLING KOHL KORN KRAUT KREUTZ LAND "
    "LAUB LEHN LICHT LIND LOEW MARK MOOS MUHL NEU NUSS OBER OHL RAUSCH REB REICH RIED ROS ROT SALZ SAND SCHIEF SCHILD "
    "SCHLAG SCHON SCHWAR SEE SILBER SONN SPITZ STEG STEIN STERN STRAUB SUSS TANN THAL TRAUT UHL UNTER WALD WALL WEIN WEIS "
    "WIES WILD WIND WOHL ZELL ZORN"
).split()
GERMAN_ENDINGS = "MANN BERGER ER BACH STEIN HEIM HOFER FELD MEYER MULLER INGER LER NER HAUSER BURGER THALER WALD AUER".split()
FRENCH_ROOTS = (
    "BARB BART BERN BERT BILL BLANCH BOISS BOUL BOURG BRIC BRUN CARL CHAMP CHARP CHAT COLL CORD COUR DAUB DELAV DORM DUB "
    "FAUV FERR FONT FOUR FRANC GAILL GARN GERV GILL GIR GOD GRAND GREG GUILL HARD HERB HUB JACQU JOLL JOUR LAMB LAND LAV "
    "LEBL LEM MAILL MALL MARCH MASS MENG MERC MICH MONT MOUL NOIR PAILL PARM PELL PERR PICH POIR PORT POUL PREV RAMB REN "
    "RIV ROB ROUSS SAUV SERR SIM TAILL TARD THIB TISS TOURN VAILL VALL VARN VERD VIGN VILL"
).split()
FRENCH_ENDINGS = "ARD EAU IER ET OT IN EL AUD ON AT OIS ERON ELLE INOT".split()
ITALIAN_ROOTS = (
    "ALBERT ANGEL ANTON BARB BASS BATTIST BELL BENED BERN BERT BON BOSC CAMPAN CAPR CARD CASAL CAVALL CECC COL CRIST DANIEL "
    "DONAT FABR FALC FERR FIOR FRANC GALL GASPAR GENT GIACOM GIOVANN GRASS GUID LEON LOMB MAGN MAR MART MAZZ MENEG MOL MONT "
    "NEGR NICOL PAOL PASQU PELL PERR PETR PIER POLL RIN ROB ROMAN SAL SANT SIMON TOMAS TREV VAL VENT VIT ZAN"
).split()
ITALIAN_ENDINGS = "INI ELLI ETTI UCCI ONI AZZI ATO OTTO IN".split()
POLISH_ROOTS = (
    "ADAM BANAS BARAN BIAL BOROW BRZOZ BUDZ CHMIEL CIES CZARN DABR DOMAN DROZD FILIP GAJEW GLOW GORSK GRZEL JAKUB JAROS "
    "JASIN JOZEF KACZMAR KALIN KASPR KLIM KOLOD KONIECZ KOSTR KRAJEW KUBIC KUCHAR LIPIN LUKASZ MACIEJ MAJEW MALIN MARCIN "
    "MATUSZ MIKOL MROZ NIEMCZ OLSZ OSTROW PIETR RADOM ROGAL SADOW SIKOR SOBOL STANISZ STEFAN SZCZEP TOMASZ URBAN WALCZ WASIL "
    "WIERZB WITK WROBL ZAWAD ZELAZ"
).split()
POLISH_ENDINGS = "SKI CZAK CZYK IAK EWSKI OWSKI OWICZ EK".split()
TURKISH_ROOTS = (
    "AK AL ALTIN ARI ATA AY BAL BAS BOZ CAN DAG DEMIR DENIZ DURAK ER ESEN GOK GUL GUN GUR GUZEL IN KAR KAYA KESKIN KIZIL KOR "
    "KUS OKAN ONAL OZ SARI SEN SES SOY TAN TAS TEK TOP TUR UCAR UZ YAL YAMAN YAVUZ YEN YUK ZENG"
).split()
TURKISH_ENDINGS = "OGLU LI CI KAYA TAS MAZ TURK DEMIR BAS ER".split()
IBERIAN = (
    "SILVA SANTOS COSTA SOUSA OLIVEIRA RAMOS MARQUES ALMEIDA RIBEIRO CUNHA LIMA REIS FREITAS BARROS MACHADO MATOS MOURA "
    "NEVES PIRES ROCHA TAVARES XAVIER ABREU AMARAL ANTUNES ARAUJO AZEVEDO BATISTA BORGES BRANCO BRITO CAMPOS COELHO DIAS "
    "DUARTE ESTEVES FARIA FIGUEIREDO FONSECA GARCIA GUERREIRO HENRIQUES LEITE LOURENCO MAGALHAES MELO MIRANDA MORAIS PACHECO "
    "PAIVA PINHEIRO"
).split()

GIRLS: dict[int, list[str]] = {
    1920: "Marie Jeanne Anne Marguerite Suzanne Germaine Madeleine Yvonne Louise Marcelle Lucie Hélène Catherine Joséphine "
          "Berthe Thérèse Élisabeth Odile Barbe Cécile".split(),
    1930: "Marie Jeanne Jacqueline Denise Anne Thérèse Monique Simone Yvette Paulette Odile Irène Lucie Gisèle Hélène "
          "Colette Marguerite Ginette Huguette Georgette".split(),
    1940: "Marie Monique Nicole Jeannine Françoise Michèle Danielle Christiane Jacqueline Annie Claudine Odile Liliane "
          "Bernadette Renée Yolande Marie-Thérèse Éliane Josiane Arlette".split(),
    1950: "Marie Martine Françoise Monique Chantal Nicole Sylvie Brigitte Catherine Michèle Christine Annie Danielle "
          "Jocelyne Marie-Thérèse Dominique Patricia Évelyne Josiane Élisabeth".split(),
    1960: "Sylvie Catherine Christine Isabelle Nathalie Patricia Véronique Brigitte Pascale Corinne Valérie Marie Muriel "
          "Laurence Sandrine Fabienne Anne Martine Béatrice Carine".split(),
    1970: "Sandrine Nathalie Stéphanie Céline Sophie Karine Delphine Valérie Laurence Virginie Christelle Sabrina Fabienne "
          "Laetitia Anne Aurélie Sonia Émilie Géraldine Carole".split(),
    1980: "Aurélie Julie Émilie Élodie Céline Laetitia Audrey Jennifer Stéphanie Jessica Marie Mélanie Sarah Caroline "
          "Laura Sabrina Virginie Charlotte Vanessa Anaïs".split(),
    1990: "Laura Marine Camille Marie Manon Pauline Mélanie Julie Sarah Anaïs Justine Morgane Océane Léa Chloé Margaux "
          "Mathilde Amandine Elisa Lucie".split(),
    2000: "Léa Manon Emma Camille Chloé Clara Sarah Inès Marie Océane Lola Jade Anaïs Lisa Julie Eva Louise Romane Lucie "
          "Zoé".split(),
    2010: "Emma Jade Louise Chloé Lola Inès Léa Manon Lina Zoé Camille Sarah Eva Alice Lena Anna Rose Mila Julia "
          "Juliette".split(),
    2020: "Jade Louise Emma Ambre Alma Rose Alba Alice Romy Anna Lina Mia Julia Léna Iris Agathe Inaya Élise Nour "
          "Charlie".split(),
}
BOYS: dict[int, list[str]] = {
    1920: "Jean Joseph Pierre Nicolas Marcel André Charles Louis René Albert Georges Paul Henri Victor Émile Lucien "
          "Raymond François Roger Jacques".split(),
    1930: "Jean Joseph André Pierre Roger René Raymond Robert Marcel Paul Georges Jacques Albert Lucien Henri Louis "
          "Charles Gilbert Fernand Nicolas".split(),
    1940: "Jean Michel Claude Jean-Claude Daniel Bernard Gérard André Jean-Pierre Jacques Joseph Roland Robert Raymond "
          "Marcel René Roger Gilbert Alain Serge".split(),
    1950: "Jean Michel Alain Patrick Gérard Bernard Jean-Claude Daniel Christian Jean-Pierre Philippe Claude Dominique "
          "Francis Jacques Serge Roland Denis Jean-Marie Gilbert".split(),
    1960: "Philippe Pascal Thierry Patrick Christophe Éric Laurent Alain Marc Christian Jean Didier Bruno Olivier "
          "Frédéric Denis Franck Michel Hervé Gilles".split(),
    1970: "Christophe Stéphane Sébastien David Frédéric Laurent Olivier Nicolas Jérôme Éric Cédric Fabrice Franck Thierry "
          "Emmanuel Arnaud Vincent Grégory Ludovic Pascal".split(),
    1980: "Nicolas Julien Sébastien David Mickaël Jérémy Guillaume Romain Thomas Jonathan Mathieu Alexandre Cédric Vincent "
          "Benjamin Kevin Anthony Christophe Maxime Ludovic".split(),
    1990: "Kevin Thomas Alexandre Nicolas Maxime Julien Romain Florian Jordan Anthony Jérémy Quentin Valentin Lucas Dylan "
          "Mathieu Benjamin Antoine Clément Pierre".split(),
    2000: "Lucas Théo Thomas Hugo Enzo Maxime Alexandre Mathis Antoine Clément Nathan Louis Quentin Tom Léo Romain Baptiste "
          "Raphaël Mohamed Yanis".split(),
    2010: "Lucas Nathan Enzo Louis Gabriel Léo Raphaël Hugo Jules Adam Arthur Ethan Mathis Tom Noah Sacha Maël Timéo Rayan "
          "Liam".split(),
    2020: "Gabriel Léo Raphaël Louis Maël Noah Jules Arthur Adam Lucas Liam Sacha Isaac Gabin Eden Naël Mohamed Malo Aaron "
          "Marius".split(),
}
GIRLS_ELSEWHERE = ("Fatima Aïcha Khadija Leïla Yasmina Samira Nadia Zeynep Elif Ayse Emine Fatma Merve Esra Maria Ana "
                   "Fernanda Conceição Lucia Giulia Francesca Rosa Carmela Teresa Agnieszka Malgorzata Katarzyna Joanna Halina "
                   "Svetlana Aminata Mariam").split()
BOYS_ELSEWHERE = ("Mohamed Ahmed Ali Karim Rachid Youssef Hamid Mehmet Mustafa Hüseyin Murat Emre Yusuf José António João "
                  "Manuel Carlos Giuseppe Giovanni Antonio Salvatore Luigi Franco Stanislas Zbigniew Krzysztof Piotr Tomasz "
                  "Casimir Mamadou Ibrahim").split()

STREETS = (
    "rue de la Gare|rue de l'Église|rue Principale|rue des Écoles|rue de la Mairie|Grand-Rue|rue du Moulin|rue des Jardins|"
    "rue de la Fontaine|rue des Lilas|rue des Roses|rue du Stade|rue de Metz|rue de Nancy|rue de Thionville|"
    "rue de Sarrebruck|avenue de la Libération|avenue Foch|rue du Général-de-Gaulle|rue Jeanne-d'Arc|rue Saint-Nicolas|"
    "rue Sainte-Barbe|rue des Mineurs|cité des Mines|rue des Hauts-Fourneaux|rue de la Forge|rue de la Sidérurgie|"
    "rue Robert-Schuman|rue Pasteur|rue Victor-Hugo|rue Émile-Zola|rue des Vosges|rue de Lorraine|rue d'Alsace|"
    "rue de la Moselle|quai de la Moselle|rue de la Sarre|rue de la Nied|rue de la Seille|rue de la Fensch|rue de l'Orne|"
    "chemin des Vignes|rue des Vergers|rue des Mirabelliers|impasse des Cerisiers|allée des Tilleuls|rue des Peupliers|"
    "rue de la Forêt|rue du Bois|rue des Prés|rue de l'Étang|rue du Château|place de la République|place du Marché|"
    "rue du 11-Novembre|rue du 8-Mai-1945|boulevard de Lorraine|rue des Alliés|rue du Calvaire|rue de la Chapelle|"
    "rue Saint-Martin|rue Saint-Rémi|rue Saint-Étienne|route de Boulay|route de Bitche|rue des Romains|rue des Acacias|"
    "rue des Hirondelles|rue des Alouettes|rue Jean-Moulin|rue Jean-Jaurès|rue Pierre-et-Marie-Curie|rue Mozart|"
    "résidence du Parc|résidence Les Chênes|rue de la Paix|rue des Tanneurs|rue des Potiers|rue des Faïenciers"
).split("|")

# Towns where people are born: (INSEE code, name, weight). Most births of the Moselle happen in its maternity wards.
BIRTH_TOWNS = (
    ("57463", "Metz", 260), ("57672", "Thionville", 150), ("57631", "Sarreguemines", 80), ("57227", "Forbach", 80),
    ("57606", "Saint-Avold", 60), ("57630", "Sarrebourg", 50), ("57751", "Woippy", 20), ("57412", "Longeville-lès-Metz", 5),
    ("57306", "Hayange", 30), ("57160", "Creutzwald", 20), ("54395", "Nancy", 40), ("54099", "Briey", 20),
    ("54329", "Lunéville", 8), ("67482", "Strasbourg", 22), ("67437", "Saverne", 6), ("68224", "Mulhouse", 8),
    ("55545", "Verdun", 6), ("88160", "Épinal", 6), ("51454", "Reims", 5), ("59350", "Lille", 8), ("69123", "Lyon", 6),
    ("13055", "Marseille", 6), ("75056", "Paris", 14), ("31555", "Toulouse", 4), ("99109", "Allemagne", 22),
    ("99127", "Italie", 22), ("99122", "Pologne", 14), ("99139", "Portugal", 14), ("99208", "Turquie", 16),
    ("99352", "Algérie", 20), ("99350", "Maroc", 16), ("99351", "Tunisie", 7), ("99137", "Luxembourg", 8),
    ("99131", "Belgique", 7), ("99134", "Espagne", 4), ("99243", "Viêt Nam", 2), ("99341", "Sénégal", 2),
)


@cache
def surnames() -> tuple[list[str], list[float]]:
    """Return the distinct surnames, common ones first, and their cumulative Zipf weights."""
    ordered: dict[str, str] = {}
    for name in COMMON:
        name = name.replace("DA-", "DA ").replace("DOS-", "DOS ").replace("BEN-", "BEN ").replace("EL-", "EL ")
        ordered.setdefault(compact(name), name)
    composed: list[str] = []
    for roots, endings in (
        (GERMAN_ROOTS, GERMAN_ENDINGS), (FRENCH_ROOTS, FRENCH_ENDINGS), (ITALIAN_ROOTS, ITALIAN_ENDINGS),
        (POLISH_ROOTS, POLISH_ENDINGS), (TURKISH_ROOTS, TURKISH_ENDINGS),
    ):
        composed += [root + ending for root, ending in product(roots, endings)]
    composed += [f"{first} {second}" for first, second in product(IBERIAN, IBERIAN) if first != second]
    # Spread the origins over the ranks, in an order that depends on nothing but the names.
    composed.sort(key=lambda name: _scatter(name))
    for name in composed:
        ordered.setdefault(compact(name), name)
    for name in composed:   # spellings of the same name that clerks wrote down differently
        for old, new in (("TZ", "Z"), ("CK", "K"), ("EI", "EY"), ("AI", "AY"), ("SS", "S"), ("LL", "L"), ("TH", "T"),
                         ("MANN", "MAN"), ("K", "CK"), ("I", "Y")):
            if old in name[1:]:
                spelled = name[0] + name[1:].replace(old, new, 1)
                ordered.setdefault(compact(spelled), spelled)
    names = list(ordered.values())
    return names, list(accumulate(1 / (rank + 8) ** 0.85 for rank in range(len(names))))


def _scatter(name: str) -> int:
    value = 2166136261
    for letter in name.encode():
        value = ((value ^ letter) * 16777619) & 0xFFFFFFFF
    return value
