"""Models by OpenAI's names and by Cesar's."""

from __future__ import annotations

from typing import ClassVar

import pytest

from cesar.api.http.openai.models import OPENAI_NAMES
from cesar.models.catalog import CATALOG
from tests.api.http.openai.support import OpenAICase


class TestModels(OpenAICase):
    async def test_models_are_listed_under_openais_names_and_cesars(self):
        listed = (await self.client.get("/v1/models")).json()
        assert listed["object"] == "list"
        names = [model["id"] for model in listed["data"]]
        assert names == [*OPENAI_NAMES, *CATALOG, "words.json"]
        assert {tuple(model) for model in listed["data"]} == {("id", "object", "created", "owned_by", "shutdown_date")}
        for model in listed["data"]:
            assert (await self.client.get(f"/v1/models/{model['id']}")).json() == model

    async def test_openais_names_mean_the_services_model(self):
        for number, name in enumerate(OPENAI_NAMES):
            _, job = await self.asked(("model", name), content=bytes([number]))
            assert job.model_size == self.model

    @pytest.mark.slow
    async def test_other_names_mean_the_model_of_that_name(self):
        _, job = await self.asked(("model", "large-v3"))
        assert job.model_size == "large-v3"
        _, job = await self.asked(("model", "words.json"))
        assert job.model_size == self.model


class TestOpenAIModelSetting(OpenAICase):
    overrides: ClassVar = {"openai_model": "small"}

    async def test_the_configured_model_serves_openais_names_only(self):
        _, job = await self.asked(("model", "whisper-1"))
        assert job.model_size == "small"
        _, job = await self.asked(("model", "words.json"))
        assert job.model_size == self.model
