"""Create the bucket AWS_STORAGE_BUCKET_NAME on the S3 server of AWS_S3_ENDPOINT_URL, unless it exists."""

import os

import boto3
from botocore.exceptions import ClientError


def main() -> None:
    bucket = os.environ["AWS_STORAGE_BUCKET_NAME"]
    s3 = boto3.client(
        "s3",
        endpoint_url=os.environ.get("AWS_S3_ENDPOINT_URL") or None,
        region_name=os.environ.get("AWS_S3_REGION_NAME") or "us-east-1",
    )
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        s3.create_bucket(Bucket=bucket)
        print(f"Created the bucket {bucket}.")


if __name__ == "__main__":
    main()
