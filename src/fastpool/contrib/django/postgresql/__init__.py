"""``"ENGINE": "fastpool.contrib.django.postgresql"``; it is in ``base``, as Django has it."""
