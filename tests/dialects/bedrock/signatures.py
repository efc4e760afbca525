"""Writes signatures.json: what botocore signs for the same requests at a fixed time.

Run with botocore from the Python index: python signatures.py > signatures.json (written with botocore 1.44.8).
"""

import datetime
import json

from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import percent_encode

TIME = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # AWS's own example
CASES = [
    ("us-east-1", "anthropic.claude-sonnet-4-5-20250929-v1:0", "converse", '{"text":"café"}', None),
    ("eu-west-1", "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0", "converse-stream",
     "{}", "TOKEN/with+signs="),
]


def sign(region, model, operation, body, token):
    path = f"model/{percent_encode(model, safe='-._~')}/{operation}"
    request = AWSRequest("POST", f"https://bedrock-runtime.{region}.amazonaws.com/{path}", data=body.encode(),
                         headers={"Content-Type": "application/json"})
    auth.SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY, token), "bedrock", region).add_auth(request)
    return {"region": region, "model": model, "operation": operation, "body": body, "token": token,
            "date": request.headers["X-Amz-Date"], "authorization": request.headers["Authorization"]}


auth.get_current_datetime = lambda *_, **__: TIME
print(json.dumps([sign(*case) for case in CASES], indent=1, ensure_ascii=False))
