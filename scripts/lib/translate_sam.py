"""Makes plain CloudFormation of SAM templates, by the translator that AWS itself uses: what SAM refuses is refused here.

Arguments: the templates. Each gets a `.json` beside it. cfn-lint looks at little of what is SAM's own, such as the properties of events.
"""

import json
import os
import sys

import yaml
from samtranslator.translator.transform import transform


class NoManagedPolicies:
    def load(self):
        return {}


# It asks for a partition's name, not for anything in the region.
os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
for path in sys.argv[1:]:
    with open(path) as file:
        template = yaml.safe_load(file)
    # As it is once `sam deploy` has uploaded the file.
    template["Globals"]["Function"]["CodeUri"] = "s3://bucket/key.zip"
    defaults = {name: it["Default"] for name, it in template["Parameters"].items()}
    translated = transform(template, defaults, NoManagedPolicies())
    with open(f"{path.removesuffix('.yaml')}.json", "w") as file:
        json.dump(translated, file, indent=1)
