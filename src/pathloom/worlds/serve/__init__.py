"""LLM serving: requests with prompts and answers cross servers of limited memory and speed."""
