"""The vocabulary of drug safety reports: substances with their products and indications, and reactions.

Substances are generic names, reactions are preferred terms of MedDRA. Both stand roughly from often to seldom reported.
"""

from typing import NamedTuple


class Substance(NamedTuple):
    """An active substance.

    Attributes:
        name: the generic name, in upper case.
        products: how reporters write its medicinal products: brands and spellings of the generic name.
        indications: what it is taken for.
        route: how it is given, by the code list of ICH E2B and in words.
    """

    name: str
    products: tuple[str, ...]
    indications: tuple[str, ...]
    route: tuple[str, str] = ("048", "ORAL")


SUBCUTANEOUS, INTRAVENOUS, TRANSDERMAL, INHALED = (
    ("058", "SUBCUTANEOUS"),
    ("042", "INTRAVENOUS"),
    ("062", "TRANSDERMAL"),
    ("055", "RESPIRATORY (INHALATION)"),
)

SUBSTANCES: tuple[Substance, ...] = (
    Substance("ADALIMUMAB", ("HUMIRA", "Humira.", "HYRIMOZ"), ("RHEUMATOID ARTHRITIS", "PSORIASIS"), SUBCUTANEOUS),
    Substance("ETANERCEPT", ("ENBREL", "Erelzi"), ("RHEUMATOID ARTHRITIS", "PSORIATIC ARTHROPATHY"), SUBCUTANEOUS),
    Substance("PREGABALIN", ("LYRICA", "PREGABALIN."), ("FIBROMYALGIA", "NEURALGIA")),
    Substance("METHOTREXATE", ("METHOTREXATE", "Methotrexate sodium.", "TREXALL"), ("RHEUMATOID ARTHRITIS",)),
    Substance("LEVOTHYROXINE", ("SYNTHROID", "LEVOTHYROXINE."), ("HYPOTHYROIDISM",)),
    Substance("ATORVASTATIN", ("LIPITOR", "ATORVASTATIN.", "Atorvastatin"), ("BLOOD CHOLESTEROL INCREASED",)),
    Substance("METFORMIN", ("GLUCOPHAGE", "METFORMIN", "Metformin."), ("TYPE 2 DIABETES MELLITUS",)),
    Substance("LISINOPRIL", ("ZESTRIL", "LISINOPRIL."), ("HYPERTENSION", "CARDIAC FAILURE")),
    Substance("OMEPRAZOLE", ("PRILOSEC", "OMEPRAZOLE", "Losec"), ("GASTROOESOPHAGEAL REFLUX DISEASE",)),
    Substance("ACETAMINOPHEN", ("TYLENOL", "Acetaminophen.", "PANADOL"), ("PAIN", "PYREXIA")),
    Substance("IBUPROFEN", ("IBUPROFEN", "ADVIL", "Motrin IB"), ("PAIN", "HEADACHE")),
    Substance("ACETYLSALICYLIC ACID", ("ASPIRIN", "Aspirin.", "ASPIRIN CARDIO"), ("PROPHYLAXIS", "PAIN")),
    Substance("WARFARIN", ("COUMADIN", "WARFARIN", "Warfarin."), ("ATRIAL FIBRILLATION", "DEEP VEIN THROMBOSIS")),
    Substance("RIVAROXABAN", ("XARELTO",), ("ATRIAL FIBRILLATION", "PULMONARY EMBOLISM")),
    Substance("APIXABAN", ("ELIQUIS", "Eliquis."), ("ATRIAL FIBRILLATION", "CEREBROVASCULAR ACCIDENT PROPHYLAXIS")),
    Substance("CLOPIDOGREL", ("PLAVIX", "CLOPIDOGREL."), ("CORONARY ARTERY DISEASE",)),
    Substance("SIMVASTATIN", ("ZOCOR", "Simvastatin"), ("HYPERLIPIDAEMIA",)),
    Substance("AMLODIPINE", ("NORVASC", "AMLODIPINE.", "Amlodipine"), ("HYPERTENSION",)),
    Substance("FUROSEMIDE", ("LASIX", "Furosemide."), ("OEDEMA", "CARDIAC FAILURE")),
    Substance("PREDNISONE", ("DELTASONE", "PREDNISONE."), ("ASTHMA", "RHEUMATOID ARTHRITIS")),
    Substance("GABAPENTIN", ("NEURONTIN", "Gabapentin", "GABAPENTIN."), ("NEURALGIA", "EPILEPSY")),
    Substance("SERTRALINE", ("ZOLOFT", "Sertraline."), ("DEPRESSION", "ANXIETY")),
    Substance("FLUOXETINE", ("PROZAC", "FLUOXETINE"), ("DEPRESSION",)),
    Substance("QUETIAPINE", ("SEROQUEL", "Quetiapine.", "SEROQUEL XR"), ("BIPOLAR DISORDER", "SCHIZOPHRENIA")),
    Substance("CLOZAPINE", ("CLOZARIL", "Clozapine"), ("SCHIZOPHRENIA",)),
    Substance("OLANZAPINE", ("ZYPREXA", "OLANZAPINE."), ("SCHIZOPHRENIA", "BIPOLAR DISORDER")),
    Substance("RISPERIDONE", ("RISPERDAL", "Risperidone."), ("SCHIZOPHRENIA", "AUTISM SPECTRUM DISORDER")),
    Substance("LAMOTRIGINE", ("LAMICTAL", "LAMOTRIGINE."), ("EPILEPSY", "BIPOLAR DISORDER")),
    Substance("CARBAMAZEPINE", ("TEGRETOL", "Carbamazepine"), ("EPILEPSY", "TRIGEMINAL NEURALGIA")),
    Substance("PHENYTOIN", ("DILANTIN", "PHENYTOIN"), ("SEIZURE", "EPILEPSY")),
    Substance("VALPROIC ACID", ("DEPAKENE", "Valproic acid."), ("EPILEPSY", "MIGRAINE")),
    Substance("OXYCODONE", ("OXYCONTIN", "Oxycodone.", "ROXICODONE"), ("PAIN", "BACK PAIN")),
    Substance("FENTANYL", ("DURAGESIC-100", "FENTANYL.", "Actiq"), ("PAIN", "CANCER PAIN"), TRANSDERMAL),
    Substance("MORPHINE", ("MS CONTIN", "MORPHINE."), ("PAIN", "CANCER PAIN")),
    Substance("TRAMADOL", ("ULTRAM", "Tramadol"), ("PAIN", "BACK PAIN")),
    Substance("METHADONE", ("DOLOPHINE", "METHADONE."), ("DRUG DEPENDENCE", "PAIN")),
    Substance("ALPRAZOLAM", ("XANAX", "Alprazolam."), ("ANXIETY", "PANIC DISORDER")),
    Substance("ZOLPIDEM", ("AMBIEN", "ZOLPIDEM"), ("INSOMNIA",)),
    Substance("CIPROFLOXACIN", ("CIPRO", "Ciprofloxacin."), ("URINARY TRACT INFECTION",)),
    Substance("LEVOFLOXACIN", ("LEVAQUIN", "LEVOFLOXACIN."), ("PNEUMONIA", "SINUSITIS")),
    Substance("AMOXICILLIN", ("AMOXIL", "Amoxicillin"), ("INFECTION", "OTITIS MEDIA")),
    Substance("DOXYCYCLINE", ("VIBRAMYCIN", "DOXYCYCLINE.", "Doryx"), ("ACNE", "LYME DISEASE")),
    Substance("VANCOMYCIN", ("VANCOCIN", "Vancomycin."), ("STAPHYLOCOCCAL INFECTION",), INTRAVENOUS),
    Substance("GENTAMICIN", ("GARAMYCIN", "GENTAMICIN"), ("SEPSIS",), INTRAVENOUS),
    Substance("AMIODARONE", ("PACERONE", "Amiodarone.", "CORDARONE"), ("ATRIAL FIBRILLATION",)),
    Substance("DIGOXIN", ("LANOXIN", "DIGOXIN."), ("ATRIAL FIBRILLATION", "CARDIAC FAILURE")),
    Substance("METOPROLOL", ("LOPRESSOR", "Metoprolol", "TOPROL-XL"), ("HYPERTENSION",)),
    Substance("SPIRONOLACTONE", ("ALDACTONE", "SPIRONOLACTONE."), ("CARDIAC FAILURE", "HYPERTENSION")),
    Substance("HYDROCHLOROTHIAZIDE", ("MICROZIDE", "Hydrochlorothiazide."), ("HYPERTENSION",)),
    Substance("GLIPIZIDE", ("GLUCOTROL", "GLIPIZIDE"), ("TYPE 2 DIABETES MELLITUS",)),
    Substance("INSULIN GLARGINE", ("LANTUS", "Lantus Solostar", "BASAGLAR"), ("DIABETES MELLITUS",), SUBCUTANEOUS),
    Substance("LIRAGLUTIDE", ("VICTOZA", "Saxenda"), ("TYPE 2 DIABETES MELLITUS", "OBESITY"), SUBCUTANEOUS),
    Substance("ALENDRONIC ACID", ("FOSAMAX", "Alendronic acid."), ("OSTEOPOROSIS",)),
    Substance("ZOLEDRONIC ACID", ("ZOMETA", "RECLAST"), ("OSTEOPOROSIS", "METASTASES TO BONE"), INTRAVENOUS),
    Substance("DOCETAXEL", ("TAXOTERE", "DOCETAXEL."), ("BREAST CANCER", "PROSTATE CANCER"), INTRAVENOUS),
    Substance("CISPLATIN", ("PLATINOL", "Cisplatin."), ("OVARIAN CANCER", "LUNG NEOPLASM MALIGNANT"), INTRAVENOUS),
    Substance("NIVOLUMAB", ("OPDIVO",), ("MALIGNANT MELANOMA", "RENAL CELL CARCINOMA"), INTRAVENOUS),
    Substance("VARENICLINE", ("CHANTIX", "Champix"), ("SMOKING CESSATION THERAPY",)),
    Substance("ISOTRETINOIN", ("ACCUTANE", "Isotretinoin."), ("ACNE",)),
    Substance("SALBUTAMOL", ("VENTOLIN", "Salbutamol", "PROAIR HFA"), ("ASTHMA",), INHALED),
)

REACTIONS: tuple[str, ...] = (
    "DRUG INEFFECTIVE",
    "NAUSEA",
    "FATIGUE",
    "HEADACHE",
    "DIARRHOEA",
    "VOMITING",
    "DIZZINESS",
    "PAIN",
    "RASH",
    "PRURITUS",
    "DYSPNOEA",
    "PYREXIA",
    "ASTHENIA",
    "ARTHRALGIA",
    "MALAISE",
    "INSOMNIA",
    "ABDOMINAL PAIN",
    "OFF LABEL USE",
    "ANXIETY",
    "FALL",
    "MYALGIA",
    "OVERDOSE",
    "DEATH",
    "COUGH",
    "CONSTIPATION",
    "DEPRESSION",
    "HYPOTENSION",
    "TREMOR",
    "SOMNOLENCE",
    "ALOPECIA",
    "WEIGHT INCREASED",
    "OEDEMA PERIPHERAL",
    "SEIZURE",
    "HYPOGLYCAEMIA",
    "HAEMORRHAGE",
    "GASTROINTESTINAL HAEMORRHAGE",
    "ACUTE KIDNEY INJURY",
    "NEUTROPENIA",
    "THROMBOCYTOPENIA",
    "INTENTIONAL OVERDOSE",
    "ACCIDENTAL OVERDOSE",
    "ANGIOEDEMA",
    "BRADYCARDIA",
    "PANCREATITIS",
    "DRUG DEPENDENCE",
    "NEUROPATHY PERIPHERAL",
    "HEPATIC FAILURE",
    "HYPERKALAEMIA",
    "HYPONATRAEMIA",
    "RHABDOMYOLYSIS",
    "RESPIRATORY DEPRESSION",
    "SEROTONIN SYNDROME",
    "ELECTROCARDIOGRAM QT PROLONGED",
    "TENDON RUPTURE",
    "STEVENS-JOHNSON SYNDROME",
    "LACTIC ACIDOSIS",
    "AGRANULOCYTOSIS",
    "PULMONARY FIBROSIS",
    "OSTEONECROSIS OF JAW",
    "ABNORMAL DREAMS",
)
