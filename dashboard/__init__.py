"""The live page: a web server for clinicians, caregivers, analysts, safety officers and administrators."""
