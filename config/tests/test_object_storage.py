"""Images on an S3 server (moto's), with the settings that R2 wants."""

import boto3
import pytest
from moto.server import ThreadedMotoServer

from accounts.tests.factories import OrganizationFactory
from config.environment import object_storage
from gallery import keeping
from gallery.models import Orphan
from gallery.tests import kit


@pytest.mark.django_db
def test_images_on_s3(settings):
    organization = OrganizationFactory()
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        client = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
        )
        client.create_bucket(Bucket="images")
        wanted = object_storage(bucket="images", endpoint=endpoint, access_key="a", secret_key="b")
        settings.STORAGES = {**settings.STORAGES, "default": wanted}
        image = kit.kept(organization)
        assert keeping.read(image) == kit.picture()
        stored = client.list_objects_v2(Bucket="images")["Contents"]
        assert {item["Key"] for item in stored} == {image.name, image.thumbnail}
        head = client.head_object(Bucket="images", Key=image.name)
        assert (head["ContentType"], head["CacheControl"]) == (
            "image/png",
            "public, max-age=31536000, s-maxage=86400, immutable",
        )
        Orphan.objects.create(name=image.name)
        assert keeping.sweep() == 1
        assert "Contents" in client.list_objects_v2(Bucket="images")
        assert len(client.list_objects_v2(Bucket="images")["Contents"]) == 1
    finally:
        server.stop()
